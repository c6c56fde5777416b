"""The page: by its text, and in a real browser where one is installed."""

import base64
import hashlib
import html
import json
import re

import numpy as np
import pytest
from web_pages import HOSTILE, Opened, Parsed

from cvtrain.explain.page import Card, Table, View, render_page
from cvtrain.system.html import data_uri, picture


def pixels(value, size=(12, 16)):
    return np.full((*size, 3), value, np.uint8)


def card(file, true, predicted, value, requested=()):
    """Pictures of one grey each, which tell in the browser which one is shown."""
    roles = {predicted: "predicted", **({} if true is None else {true: "true"})}
    if true == predicted:
        roles = {predicted: "predicted and true"}
    roles |= dict.fromkeys(requested, "requested")
    views = tuple(
        View(name, role, 0.625, -1.5, "", picture(pixels(value + 10 * (i + 1))))
        for i, (name, role) in enumerate(roles.items())
    )
    return Card(file, true, predicted, picture(pixels(value)), views)


CARDS = [
    card("right.jpg", "cat", "cat", 20),
    card("wrong.jpg", "cat", "dog", 60),
    card("unknown.jpg", None, "dog", 100),
    card("other.jpg", "owl", "owl", 140, requested=("cat",)),
]
TABLE = Table("Faithfulness", ("measure", "gradcam"), (("deletion", "0.21"),))


def page(cards=CARDS, **more):
    figures = [("Curves", data_uri(base64.b64decode(picture(pixels(9))[23:]), "image/jpeg"))]
    given = {"facts": [("method", "gradcam")], "tables": [TABLE], "figures": figures}
    return render_page("Two animals", cards=cards, **(given | more))


def hostile_page():
    cards = [
        Card(name, name, name + name[::-1], picture(pixels(0)), ()) for name in reversed(HOSTILE)
    ]
    cards += [
        Card(
            "x",
            None,
            name,
            picture(pixels(0)),
            (View(name, "requested", 1, 1, name, picture(pixels(1))),),
        )
        for name in HOSTILE
    ]
    names = tuple(HOSTILE)
    return render_page(
        HOSTILE[0],
        facts=[(name, name) for name in HOSTILE],
        cards=cards,
        figures=[(name, picture(pixels(2))) for name in HOSTILE],
        tables=[Table(HOSTILE[0], names, (names,))],
    )


class TestText:
    def test_the_policy_allows_what_is_there_and_nothing_else(self):
        parsed = Parsed(page())
        (policy,) = [m["content"] for m in parsed.find("meta") if "http-equiv" in m]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        for tag in ("style", "script"):
            digest = base64.b64encode(hashlib.sha256(parsed.texts[tag].encode()).digest()).decode()
            assert rules.pop(f"{tag}-src") == f"'sha256-{digest}'"
            assert len(parsed.find(tag)) == 1
        assert rules.pop("img-src") == "data:"
        assert set(rules) == {"default-src", "base-uri", "form-action"}
        assert set(rules.values()) == {"'none'"}

    def test_refers_to_nothing_outside(self):
        text = page()
        assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
        for _, attributes in Parsed(text).elements:
            assert "style" not in attributes
            assert not any(name.startswith("on") for name in attributes)
            for name in ("src", "href"):
                assert attributes.get(name, "data:").startswith("data:")

    def test_every_picture_has_a_text(self):
        images = Parsed(page()).find("img")
        assert all(image["alt"] for image in images if "src" in image)
        assert "wrong.jpg: map for dog" in [image["alt"] for image in images]

    def test_says_all_that_is_known(self):
        text = html.unescape(re.sub(r"<[^>]+>", "", page(num_left_out=12)))
        for expected in ("gradcam", "62.5\xa0%", "score -1.50", "wrong.jpg", "12 more", "0.21"):
            assert expected in text
        assert "1 more image is" in page(num_left_out=1)
        assert "more image" not in page()

    def test_names_are_text_and_nothing_else(self):
        text = hostile_page()
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e\ud800-\udfff]", text)
        parsed = Parsed(text)
        assert [len(parsed.find(tag)) for tag in ("style", "script")] == [1, 1]
        tags = {tag for tag, _ in Parsed(page()).elements}
        assert {tag for tag, _ in parsed.elements} <= tags | {"span"}
        assert text.encode("utf-8")

    def test_without_images(self):
        text = page(cards=[])
        assert "Faithfulness" in text
        assert "supports the class" not in text


class OpenedPage(Opened):
    """What is on the page of a look, as a person sees it."""

    def greys(self, selector):
        """The grey of each shown picture that `selector` finds."""
        return self.run(
            f"""Promise.all([...document.querySelectorAll({json.dumps(selector)})]
            .filter(image => image.checkVisibility()).map(async image => {{
              await image.decode();
              const canvas = new OffscreenCanvas(1, 1).getContext("2d");
              canvas.drawImage(image, 0, 0);
              return canvas.getImageData(0, 0, 1, 1).data[0];
            }}))"""
        )

    def files(self):
        return self.run(
            """[...document.querySelectorAll(".card")].filter(card => card.checkVisibility())
            .map(card => card.querySelector(".file").innerText)"""
        )

    def choose(self, name):
        self.run(
            f"""(select => {{
              const options = [...select.options];
              options.find(option => option.dataset.name === {json.dumps(name)}).selected = true;
              select.dispatchEvent(new Event("change", {{bubbles: true}}));
            }})(document.querySelector("select"))"""
        )


@pytest.fixture
def opened(browser, tmp_path):
    result = OpenedPage(browser, tmp_path / "index.html", page())
    yield result
    assert result.log() == []
    assert result.requests() == [result.uri]


class TestInBrowser:
    def test_filters(self, opened):
        files = ["right.jpg", "wrong.jpg", "unknown.jpg", "other.jpg"]
        assert opened.files() == files
        opened.choose("cat")
        assert opened.files() == files[:2]
        opened.click("input[value=wrong]")
        assert opened.files() == ["wrong.jpg"]
        opened.choose("owl")
        assert opened.files() == []
        assert "No image" in opened.run("document.querySelector('main').innerText")
        opened.choose("all classes")
        opened.click("input[value=unknown]")
        assert opened.files() == ["unknown.jpg"]
        assert "No image" not in opened.run("document.querySelector('main').innerText")

    def test_counts(self, opened):
        def counts():
            options = opened.run("[...document.querySelectorAll('option')].map(o => o.text)")
            return options, opened.run("document.querySelector('.outcomes').innerText").split()

        classes, outcomes = counts()
        assert classes == ["all classes (4)", "cat (2)", "dog (2)", "owl (1)"]
        assert outcomes == ["all", "4", "wrong", "1", "right", "2", "unknown", "1"]
        opened.choose("dog")
        opened.click("input[value=wrong]")
        classes, outcomes = counts()
        assert classes == ["all classes (1)", "cat (1)", "dog (1)", "owl (0)"]
        assert outcomes == ["all", "2", "wrong", "1", "right", "0", "unknown", "1"]

    def test_a_mistake_shows_the_true_class_beside_the_predicted_one(self, opened):
        first, second = opened.run(
            """[...document.querySelectorAll(".card")[1].querySelectorAll(".view")]
            .map(view => [view.innerText, view.getBoundingClientRect().toJSON()])"""
        )
        assert "dog predicted" in first[0]
        assert "cat true" in second[0]
        assert first[1]["top"] == second[1]["top"]
        assert first[1]["right"] <= second[1]["left"]

    def test_originals(self, opened):
        assert opened.greys(".card img") == [30, 70, 80, 110, 150, 160]
        opened.press("o")
        assert opened.greys(".card img") == [20, 60, 60, 100, 140, 140]
        assert (
            opened.run("document.querySelector('.card .view img').alt")
            == "right.jpg, original image"
        )
        opened.click(".bar .toggle")
        assert opened.greys(".card img") == [30, 70, 80, 110, 150, 160]

    def test_lightbox_by_keyboard(self, opened):
        from selenium.webdriver.common.keys import Keys

        opened.choose("dog")
        opened.run("document.querySelectorAll('.view button')[1].focus()")
        opened.press(Keys.ENTER)
        assert opened.greys("dialog img") == [70]
        caption = opened.run("document.querySelector('dialog').innerText")
        assert "dog predicted" in caption
        assert "cat predicted as dog" in caption
        assert "wrong.jpg" in caption
        shown = []
        for key in (Keys.RIGHT, Keys.RIGHT, Keys.RIGHT, Keys.RIGHT, Keys.LEFT, "o", Keys.LEFT, "O"):
            opened.press(key)
            shown += opened.greys("dialog img")
        assert shown == [80, 110, 9, 70, 9, 9, 100, 110]
        opened.press(Keys.ESCAPE)
        assert opened.greys("dialog img") == []
        assert opened.run("document.activeElement.firstChild.alt").startswith("unknown.jpg")
        opened.press(Keys.RIGHT)
        assert opened.greys("dialog img") == []

    def test_lightbox_by_mouse(self, opened):
        opened.click(".view button img")
        opened.click("[data-step='1']")
        opened.click("dialog .toggle")
        assert opened.greys("dialog img") == [60]
        assert opened.run("document.querySelector('dialog .toggle').ariaPressed") == "true"
        opened.click("dialog img")
        assert opened.greys("dialog img") == [60]
        opened.click(".stage")
        assert opened.greys("dialog img") == []
        opened.click(".view button img")
        opened.click(".close")
        assert opened.greys("dialog img") == []

    @pytest.mark.parametrize("width", [360, 1280])
    def test_nothing_is_wider_than_the_window(self, browser, tmp_path, width):
        metrics = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        opened = OpenedPage(browser, tmp_path / "index.html", hostile_page())
        assert opened.run("document.documentElement.scrollWidth") <= width
        opened.click(".view button")
        assert opened.run("document.querySelector('dialog').scrollWidth") <= width
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def test_hostile_names_are_shown_and_do_nothing(self, browser, tmp_path):
        opened = OpenedPage(browser, tmp_path / "index.html", hostile_page())
        facts = opened.run("[...document.querySelectorAll('.facts dd')].map(e => e.textContent)")
        expected = [*HOSTILE[:6], r"a\x1b[31m\x00\r\nb\x7f", r"gpj.\u202etxt", r"caf\udce9"]
        assert facts == [*expected, *HOSTILE[9:]]
        for name in (HOSTILE[0], HOSTILE[1], HOSTILE[10]):
            opened.choose(name)
            assert len(opened.files()) == 2
        opened.click(".view button")
        assert opened.run("window.pwned") is None
        assert opened.log() == []
        assert opened.requests() == [opened.uri]

    def test_what_is_smuggled_in_does_not_run_or_load(self, browser, tmp_path):
        smuggled = (
            "<script>window.pwned = 1</script><p onclick='window.pwned = 1'>x</p>"
            "<img src='http://127.0.0.1:9/x.png'><style>body { display: none }</style></main>"
        )
        text = page().replace("</main>", smuggled)
        opened = OpenedPage(browser, tmp_path / "index.html", text)
        opened.click("main > p")
        assert opened.run("window.pwned") is None
        assert opened.files()
        assert len(opened.log()) >= 4
        assert all("Content Security Policy" in line for line in opened.log())

    def test_without_scripts_it_is_a_list(self, browser, tmp_path):
        # The browser's own switch comes too late now and then: the page itself forbids its script.
        policy = """<meta http-equiv="Content-Security-Policy" content="script-src 'none'">"""
        text = page().replace("<head>", f"<head>{policy}")
        assert policy in text
        opened = OpenedPage(browser, tmp_path / "index.html", text)
        assert opened.greys("img")[1:] == [20, 30, 60, 70, 80, 100, 110, 140, 150, 160, 9]
        controls = "[...document.querySelectorAll('button, select, input')]"
        assert not opened.run(f"{controls}.some(control => control.checkVisibility())")
        assert len(opened.files()) == 4

    def test_without_images(self, browser, tmp_path):
        opened = OpenedPage(browser, tmp_path / "index.html", page(cards=[]))
        opened.press("o")
        opened.click(".drawing button")
        assert opened.greys("dialog img") == [9]
        assert opened.log() == []
