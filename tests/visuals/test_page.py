"""The page: by its text, and in a real browser where one is installed."""

import base64
import hashlib
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvtrain.visuals.page import Card, Table, View, data_uri, picture, render_page

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")

HOSTILE = [
    "<script>window.pwned = 1</script>",
    "\"><img src=x onerror='window.pwned = 1'>",
    "' onmouseover='window.pwned = 1",
    "</style></script><script>window.pwned = 1</script>",
    "{{ 7 * 7 }}{% raise %}",
    "javascript:window.pwned=1",
    "a\x1b[31m\x00\r\nb\x7f",
    "gpj.\u202etxt",
    "caf\udce9",
    "<!--",
    "W" * 300,
]


def pixels(value, size=(12, 16)):
    return np.full((*size, 3), value, np.uint8)


def card(file, true, predicted, value, asked=()):
    """Pictures of one grey each, which tell in the browser which one is shown."""
    roles = {predicted: "predicted", **({} if true is None else {true: "true"})}
    if true == predicted:
        roles = {predicted: "predicted and true"}
    roles |= dict.fromkeys(asked, "asked")
    views = tuple(
        View(name, role, 0.625, -1.5, "", picture(pixels(value + 10 * (i + 1))))
        for i, (name, role) in enumerate(roles.items())
    )
    return Card(file, true, predicted, picture(pixels(value)), views)


CARDS = [
    card("right.jpg", "cat", "cat", 20),
    card("wrong.jpg", "cat", "dog", 60),
    card("unknown.jpg", None, "dog", 100),
    card("other.jpg", "owl", "owl", 140, asked=("cat",)),
]
TABLE = Table("Faithfulness", ("measure", "gradcam"), (("deletion", "0.21"),), "Means.")


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
            (View(name, "asked", 1, 1, name, picture(pixels(1))),),
        )
        for name in HOSTILE
    ]
    names = tuple(HOSTILE)
    return render_page(
        HOSTILE[0],
        facts=[(name, name) for name in HOSTILE],
        cards=cards,
        figures=[(name, picture(pixels(2))) for name in HOSTILE],
        tables=[Table(HOSTILE[0], names, (names,), HOSTILE[1])],
    )


class Parsed(HTMLParser):
    """Elements of a page as (name, attributes), and the text of those that are not shown."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] in ("style", "script"):
            self.texts.setdefault(self.elements[-1][0], data)

    def find(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


class TestPicture:
    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            ((480, 640), (480, 640)),
            ((1280, 400), (640, 200)),
            ((300, 3000), (64, 640)),
            ((160, 20), (160, 20)),
            ((28, 28), (168, 168)),
            ((1, 100), (2, 200)),
            ((1, 4000), (1, 640)),
        ],
    )
    def test_size(self, size, expected):
        image = self.decoded(picture(pixels(77, size)))
        assert image.shape[:2] == expected
        assert np.abs(image.astype(int) - 77).max() <= 1

    def test_pixels_of_a_small_image_stay_squares(self):
        small = np.random.default_rng(0).integers(0, 256, (8, 8, 1)).astype(np.uint8).repeat(3, 2)
        found = self.decoded(picture(small))[10::20, 10::20].astype(int)
        assert np.abs(found - small).max() < 30

    @staticmethod
    def decoded(uri):
        prefix = "data:image/jpeg;base64,"
        assert uri.startswith(prefix)
        image = Image.open(io.BytesIO(base64.b64decode(uri[len(prefix) :], validate=True)))
        assert image.format == "JPEG"
        return np.asarray(image)


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
        assert "wrong.jpg: where it speaks for dog" in [image["alt"] for image in images]

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
        assert "speaks for" not in text


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    for path in (CHROMIUM, CHROMEDRIVER):
        if not path.exists():
            pytest.skip(f"no {path}")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=str(CHROMEDRIVER))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


class Opened:
    """A page in the browser, and what the browser says of it."""

    def __init__(self, browser, path, text):
        path.write_text(text, "utf-8")
        self.browser, self.uri = browser, path.as_uri()
        self.log()
        self.requests()
        browser.get(self.uri)

    def run(self, script):
        return self.browser.execute_script(f"return {script}")

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def click(self, selector):
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

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

    def log(self):
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def requests(self):
        events = [json.loads(e["message"])["message"] for e in self.browser.get_log("performance")]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        urls = [event["request"]["url"] for event in sent]
        # Those of its own start page come now and then.
        return [url for url in urls if not url.startswith(("data:", "chrome"))]


@pytest.fixture
def opened(browser, tmp_path):
    result = Opened(browser, tmp_path / "index.html", page())
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
        assert opened.run("document.querySelector('.card .view img').alt") == "right.jpg, as it is"
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
        assert "cat taken for dog" in caption
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
        opened = Opened(browser, tmp_path / "index.html", hostile_page())
        assert opened.run("document.documentElement.scrollWidth") <= width
        opened.click(".view button")
        assert opened.run("document.querySelector('dialog').scrollWidth") <= width
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def test_hostile_names_are_shown_and_do_nothing(self, browser, tmp_path):
        opened = Opened(browser, tmp_path / "index.html", hostile_page())
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
        opened = Opened(browser, tmp_path / "index.html", text)
        opened.click("main > p")
        assert opened.run("window.pwned") is None
        assert opened.files()
        assert len(opened.log()) >= 4
        assert all("Content Security Policy" in line for line in opened.log())

    def test_without_scripts_it_is_a_list(self, browser, tmp_path):
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        opened = Opened(browser, tmp_path / "index.html", page())
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        assert opened.greys("img")[1:] == [20, 30, 60, 70, 80, 100, 110, 140, 150, 160, 9]
        controls = "[...document.querySelectorAll('button, select, input')]"
        assert not opened.run(f"{controls}.some(control => control.checkVisibility())")
        assert len(opened.files()) == 4

    def test_without_images(self, browser, tmp_path):
        opened = Opened(browser, tmp_path / "index.html", page(cards=[]))
        opened.press("o")
        opened.click(".drawing button")
        assert opened.greys("dialog img") == [9]
        assert opened.log() == []
