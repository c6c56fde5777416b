"""Pages that cvtrain wrote: their text taken apart, and a real browser that opens them."""

import json
from html.parser import HTMLParser

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

    def log(self):
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def requests(self):
        events = [json.loads(e["message"])["message"] for e in self.browser.get_log("performance")]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        urls = [event["request"]["url"] for event in sent]
        # Those of its own start page come now and then.
        return [url for url in urls if not url.startswith(("data:", "chrome"))]


class Tables(HTMLParser):
    """Each table of a page by the name of its region: rows of the texts of its cells."""

    def __init__(self, text):
        super().__init__()
        self.tables, self._region, self._cell = {}, None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if dict(attrs).get("role") == "region":
            self._region = self.tables.setdefault(dict(attrs)["aria-label"], [])
        elif tag == "tr":
            self._region.append([])
        elif tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._region[-1].append(self._cell.strip())
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data

    def __getitem__(self, name):
        """Rows below the heading, without columns that hold a drawing alone."""
        heading, *rows = self.tables[name]
        kept = [i for i, cell in enumerate(heading) if cell]
        return [[row[i] for i in kept] for row in rows]
