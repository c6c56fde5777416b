"""The site is complete, without broken links, and needs no network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; `--strict` fails on any broken link or anchor."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]  # --quiet would allow warnings
    command += ["--config-file", ROOT / "docs" / "site" / "mkdocs.yml", "--site-dir", folder]
    subprocess.run(command, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    return folder


def test_every_page_is_there(site):
    names = {path.stem for path in (ROOT / "docs").glob("*.md")}
    names |= {"index", "CHANGELOG", "CONTRIBUTING", "SECURITY"}
    assert {path.stem for path in site.glob("*.html")} == names | {"404"}


def test_every_link_leads_to_a_file(site):
    for page in site.rglob("*.html"):
        found = re.findall(r'(?:href|src)="([^"#?]+)', page.read_text(encoding="utf-8"))
        local = {link for link in found if not re.match("[a-z]+:", link)}
        missing = {link for link in local if not (page.parent / link).exists()}
        assert page.name == "404.html" or missing == set(), page.name


def test_the_api_page_has_the_docstrings(site):
    page = (site / "site" / "api.html").read_text(encoding="utf-8")
    assert 'id="cvtrain.api.Run.predict"' in page
    assert "Train a convnet from scratch and evaluate it" in page
    assert "The command line or the config is invalid." in page


def test_nothing_is_loaded_from_a_network(site):
    loaded = re.compile(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="?(?:https?:)?//')
    for page in site.rglob("*.html"):
        assert not loaded.search(page.read_text(encoding="utf-8")), page.name
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8"), style.name


def test_search_knows_the_pages(site):
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert "fine-tuning" in index
    assert "site/api.html#cvtrain.api.fit" in index
