"""The reference is what the code says, and the schema knows what the loader takes."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from cvtrain.config import yaml
from cvtrain.config.schema import config_schema

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Generated page -> its text, written into a copy of the generator's folder."""
    folder = tmp_path_factory.mktemp("docs")
    script = folder / "generate.py"
    script.write_text((ROOT / "docs" / "generate.py").read_text(encoding="utf-8"))
    shutil.copy(ROOT / "docs" / "run-folder.md", folder)
    subprocess.run([sys.executable, script], check=True, cwd=ROOT)
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.*[!y]")}


def test_committed_pages_are_what_the_code_says(pages):
    assert set(pages) == {"cli.md", "config.md", "config.schema.json", "run-folder.md"}
    for name, text in pages.items():
        committed = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert committed == text, f"docs/{name} is old: make docs"


def test_the_architecture_page_names_every_package():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listing = page.partition("## Packages")[2].partition("\n## ")[0]
    assert len(listing.splitlines()) <= 60
    packages = {path.parent.name for path in (ROOT / "cvtrain").glob("*/__init__.py")}
    assert {package for package in packages if f"\n  {package}/ " not in listing} == set()
    named = re.findall(r"`([a-z_]+/[a-z_./0-9]+\.[a-z0-9]+)`", listing)
    assert [name for name in named if not (ROOT / "cvtrain" / name).is_file()] == []


def test_no_help_has_a_control_character(pages):
    """Click's mark against re-wrapping, `\\b`, is one where no blank line is before it."""
    for name, text in pages.items():
        assert all(c.isprintable() or c == "\n" for c in text), name


def test_every_command_teaches_by_example(pages):
    for help_text in pages["cli.md"].split("\n## ")[1:]:
        if "COMMAND [ARGS]" not in help_text:
            assert "Examples:" in help_text, help_text.partition("\n")[0]


def test_every_key_has_a_meaning():
    schema = config_schema()
    for section in (schema, *schema["$defs"].values()):
        assert section["description"]
        for name, field in section["properties"].items():
            assert field["description"], name


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(config_schema())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_schema_takes_the_recipes(path):
    jsonschema.validate(yaml.load(path.read_text(encoding="utf-8")).value, config_schema())


@pytest.mark.parametrize(
    "wrong",
    [
        "fit: {epochs: 0}",
        "fit: {epoch: 3}",
        "fit: {optimizer: {name: adamm}}",
        "fit: {model: {name: separable, kernel_size: 3}}",
        "data: {source: photos, image_size: [180]}",
        "data: {source: photos, classes: [cats]}",
        "data: {source: 7}",
        "augment: {rotate: 200}",
        "extract_features: {views: some}",
        "finetune: {then: [{epochs: no}]}",
    ],
)
def test_the_schema_refuses(wrong):
    value = {"data": {"source": "photos"}} | yaml.load(wrong).value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, config_schema())


@pytest.mark.parametrize(
    "right",
    [
        "data: {source: photos, image_size: 180, classes: [0, 1]}",
        "fit: {model: {kernel_size: [3, 3, 3, 3], pooling: 2, dense: []}}",
        "fit: {model: {name: separable, filters: [8]}}",
        "fit: {model: {filters: [8]}}",
        "extract_features: {views: unlimited}",
        "finetune: null",
    ],
)
def test_the_schema_takes_every_form(right):
    value = {"data": {"source": "photos"}} | yaml.load(right).value
    jsonschema.validate(value, config_schema())
