"""Configs as people write them, and as YAML's traps make of them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

LEAST = "data: {source: digits}\n"


class Refused(NamedTuple):
    """A config that nothing is started with.

    Attributes:
        text: of the file; `LEAST` is put at its end where it is a str.
        line: of the mistake.
        what: words of the message.
        advice: words of the advice, or of the message where the mistake is one of a key.
    """

    text: str | bytes
    line: int
    what: str
    advice: str = ""


class Read(NamedTuple):
    """A config that is understood.

    Attributes:
        text: as of `Refused`.
        key: one of the config.
        value: what it says.
    """

    text: str | bytes
    key: str
    value: Any


BOMB = "".join(
    f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" if i else "l0: &l0 [x, x]\n"
    for i in range(9)
)


def read() -> Iterator[Read]:
    """What other loaders get wrong, or refuse."""
    yield Read("fit: {optimizer: {learning_rate: 1e-3}}", "fit.optimizer.learning_rate", 0.001)
    yield Read("fit: {optimizer: {learning_rate: 1E-3}}", "fit.optimizer.learning_rate", 0.001)
    yield Read("fit: {optimizer: {learning_rate: .5}}", "fit.optimizer.learning_rate", 0.5)
    yield Read("fit: {epochs: 0123}", "fit.epochs", 123)
    yield Read("fit: {epochs: 0o17}", "fit.epochs", 15)
    yield Read("fit: {epochs: 0x10}", "fit.epochs", 16)
    yield Read("fit: {epochs: +7}", "fit.epochs", 7)
    yield Read("fit: {early_stopping: ~}", "fit.early_stopping", None)
    yield Read("fit: {early_stopping:}", "fit.early_stopping", None)
    yield Read("fit: {early_stopping: null}", "fit.early_stopping", None)
    yield Read("fit: {model: {grayscale: True}}", "fit.model.grayscale", True)
    yield Read("fit: {model: {filters: [8, 16,]}}", "fit.model.filters", (8, 16))
    yield Read("fit: {epochs: 3,}", "fit.epochs", 3)
    yield Read("fit: {epochs: 3} # as in the book", "fit.epochs", 3)
    yield Read("fit:\r\n  epochs: 4\r\n", "fit.epochs", 4)
    yield Read("fit:\r  epochs: 4\r", "fit.epochs", 4)
    yield Read("--- # config\nfit: {epochs: 5}", "fit.epochs", 5)
    yield Read("%YAML 1.2\n---\nfit: {epochs: 5}", "fit.epochs", 5)
    yield Read("augment: &a {rotate: 3}\nfit: {epochs: &n 6, batch_size: *n}", "fit.batch_size", 6)
    yield Read(b"\xef\xbb\xbf" + LEAST.encode(), "data.source", "digits")
    yield Read(b'{"data": {"source": "digits"}, "fit": {"epochs": 7}}', "fit.epochs", 7)
    yield Read(b"data: {source: digits, classes: [no, yes]}", "data.classes", ("no", "yes"))
    yield Read(b"data: {source: digits, classes: [1, 07]}", "data.classes", ("1", "7"))
    yield Read(
        b"data: {source: digits, classes: [2026-01-01, 12:30]}",
        "data.classes",
        ("2026-01-01", "12:30"),
    )
    yield Read(b"data: {source: digits, classes: ['007', '1e3']}", "data.classes", ("007", "1e3"))
    yield Read(
        "data: {source: digits, classes: [été, \U0001f408]}".encode(),
        "data.classes",
        ("été", "\U0001f408"),
    )
    yield Read(
        b'data: {source: digits, classes: ["\\u00e9t\\xe9", cat]}', "data.classes", ("été", "cat")
    )


def syntax() -> Iterator[Refused]:
    yield Refused("fit:\n\tepochs: 3", 2, "a tab", "Indent with spaces")
    yield Refused("fit: {\n\tepochs: 3}", 2, "a tab", "Indent with spaces")
    yield Refused(
        "seed: 1\naugment: {flip: 'none}", 2, "quote that begins here is never closed", "Close it"
    )
    yield Refused(
        'seed: 1\naugment: {flip: "none}', 2, "quote that begins here is never closed", "Close it"
    )
    yield Refused(
        "fit: {model: {filters: [8, 16}}",
        1,
        "bracket that begins here is not closed",
        "close the bracket",
    )
    yield Refused(
        "fit: {epochs: 3\nseed: 1", 1, "bracket that begins here is not closed", "close the bracket"
    )
    yield Refused("fit: {model: {filters: [8, 16]]}}", 1, "bracket", "bracket")
    yield Refused("log: [mlflow]]", 1, "a bracket too many", "Remove it")
    yield Refused("fit: epochs: 3", 1, "a second ': ' in one line", "single quotes")
    yield Refused("fit:\n  epochs: 3\n    batch_size: 4", 3, "indented too far", "alike")
    yield Refused("fit:\n    epochs: 3\n  batch_size: 4", 3, "indented otherwise", "alike")
    yield Refused("log:\n  - mlflow\n - tensorboard", 3, "indented otherwise", "alike")
    yield Refused("seed: 1\n- fit", 2, "a list entry among keys", "alike")
    yield Refused("- seed: 1\nfit: {}", 2, "a key among list entries", "alike")
    yield Refused("log: - mlflow", 1, "a list begins in the line of its key", "alike")
    yield Refused("device: 'cpu' or gpu", 1, "something follows a closing quote", "single quotes")
    yield Refused("device: 'it's'", 1, "something follows a closing quote", "single quotes")
    yield Refused("device: @cpu", 1, "begins with @, ` or %", "single quotes")
    yield Refused("device: `cpu`", 1, "begins with @, ` or %", "single quotes")
    yield Refused("device: %cpu", 1, "begins with @, ` or %", "single quotes")
    yield Refused("device: *.jpg", 1, "begins with * or &", "single quotes")
    yield Refused("device: *cpu", 1, "begins with * or &", "single quotes")
    yield Refused('device: "C:\\data"', 1, "in double quotes a backslash", "single quotes")
    yield Refused("fit:\n  epochs\n  batch_size: 3", 3, "a second ': '", "alike")
    yield Refused("seed: 1\n---\nseed: 2", 2, "a second document", "Keep one")
    yield Refused("seed: 1\n...\nseed: 2", 3, "a second document", "Keep one")
    yield Refused("%YAML 1.1\nseed: 1", 2, "document", "")
    yield Refused(
        "seed: 1\nfit: {}\nseed: 2", 3, "'seed' stands twice, first on line 1", "Keep one"
    )
    yield Refused(
        "fit:\n  epochs: 1\n  epochs: 2", 3, "'epochs' stands twice, first on line 2", "Keep one"
    )
    yield Refused(
        "base: &base {epochs: 3}\nfit: {<<: *base}", 2, "no merge keys (<<)", "Write the keys out"
    )
    yield Refused("fit: !!python/object/apply:os.system ['true']", 1, "the tag", "plain value")
    yield Refused("seed: !!python/name:os.system x", 1, "the tag", "plain value")
    yield Refused("seed: !!int '3'", 1, "the tag", "plain value")
    yield Refused("seed: !mine 3", 1, "the tag", "plain value")
    yield Refused("? [1, 2]\n: x", 1, "a key must be a plain word", "key: value")
    yield Refused(BOMB, 1, "once aliases are expanded", "a page")
    yield Refused("fit: &a [*a]", 1, "once aliases are expanded", "a page")
    yield Refused("fit: " + "[" * 1000, 1, "nested deeper than 20 levels", "a page")
    yield Refused(
        "".join("  " * i + "a:\n" for i in range(30)), 21, "nested deeper than 20 levels", "a page"
    )
    yield Refused("x" * 10_000_000, 1, "larger than 1,000,000 bytes", "A config is a page")
    yield Refused("log: [" + "x," * 10_001 + "]", 1, "more than 10,000 values", "a page")
    yield Refused("seed: \x00", 1, "the character U+0000", "plain text in UTF-8")
    yield Refused("seed: 1\ndevice: \x1b[31mcpu", 2, "the character U+001B", "plain text in UTF-8")
    yield Refused('device: "\\ud800"', 1, "half of a character", "the character itself")
    yield Refused(LEAST.encode("utf-16"), 1, "not a text in UTF-8", "Save the file as UTF-8")
    yield Refused(LEAST.encode("utf-16-le"), 1, "the character U+0000", "plain text in UTF-8")
    yield Refused(
        b"seed: 1\ndata: {source: caf\xe9}", 2, "not a text in UTF-8", "Save the file as UTF-8"
    )
    yield Refused(
        b"\xff\xd8\xff\xe0" + bytes(100), 1, "not a text in UTF-8", "Save the file as UTF-8"
    )
    yield Refused(b"data: digits, seed: 1", 1, "a second ': ' in one line", "single quotes")
    yield Refused(b"- data\n- fit\n", 1, "must be sections such as `data:`", "The least is")
    yield Refused(
        b"epochs:3", 1, "received the text 'epochs:3'", "a space belongs after each colon"
    )
    yield Refused(b"42", 1, "must be sections", "The least is")


def values() -> Iterator[Refused]:
    """Well-formed, and not what a key takes; all advice stands in the line of the mistake."""
    yield Refused(
        "fit: {epochs: '30'}",
        1,
        "fit.epochs: must be a whole number; received the text '30'",
        "Did you mean 30?",
    )
    yield Refused(
        "fit: {epochs: 30 epochs}", 1, "received the text '30 epochs'", "Did you mean 30?"
    )
    yield Refused(
        "fit: {epochs: 1_000}",
        1,
        "must be a whole number; received the text '1_000'",
        "Did you mean 1000?",
    )
    yield Refused(
        "fit:\n  epochs: 1,000",
        2,
        "must be a whole number; received the text '1,000'",
        "Did you mean 1000?",
    )
    yield Refused(
        "fit:\n  epochs: 3,", 2, "must be a whole number; received the text '3,'", "Did you mean 3?"
    )
    yield Refused(
        "augment:\n  rotate: 0,5",
        2,
        "augment.rotate: must be a number; received the text '0,5'",
        "Did you mean 0.5?",
    )
    yield Refused("augment: {rotate: 0,5}", 1, "augment.5: there is no such key", "as 0.5")
    yield Refused(
        "augment: {rotate: 40deg}",
        1,
        "must be a number; received the text '40deg'",
        "Did you mean 40?",
    )
    yield Refused(
        "augment: {zoom: 20%}", 1, "must be a number; received the text '20%'", "Did you mean 0.2?"
    )
    yield Refused("augment: {zoom: 20}", 1, "augment.zoom: must be less than 1; received 20")
    yield Refused(
        "augment: {rotate: \u201c40\u201d}",
        1,
        "must be a number; received the text",
        "Did you mean 40?",
    )
    yield Refused("augment: {rotate: 12:30}", 1, "must be a number; received the text '12:30'")
    yield Refused(
        "augment: {rotate: 2026-01-01}", 1, "must be a number; received the text '2026-01-01'"
    )
    yield Refused("augment: {rotate: .inf}", 1, "must be a finite number; received Infinity")
    yield Refused("augment: {rotate: .nan}", 1, "must be a finite number; received NaN")
    yield Refused("augment: {rotate: 1e999}", 1, "must be a finite number; received Infinity")
    yield Refused("augment: {rotate: [40]}", 1, "must be a number; received [40]")
    yield Refused("augment: {rotate: {by: 40}}", 1, "must be a number; received a section")
    yield Refused("augment: {rotate: yes}", 1, "must be a number; received the text 'yes'")
    yield Refused("augment: {rotate: true}", 1, "must be a number; received true")
    yield Refused("augment: {rotate:}", 1, "must be a number; received nothing")
    yield Refused("seed: " + "9" * 30, 1, "seed: must be less than 4294967296")
    yield Refused("seed: " + "9" * 5000, 1, "seed: must be a whole number; received Infinity")
    yield Refused(
        "fit: {model: {grayscale: yes}}",
        1,
        "must be true or false; received the text 'yes'",
        "Did you mean true?",
    )
    yield Refused(
        "fit: {model: {grayscale: Off}}",
        1,
        "must be true or false; received the text 'Off'",
        "Did you mean false?",
    )
    yield Refused("fit: {model: {grayscale: 1}}", 1, "must be true or false; received 1")
    yield Refused(
        "fit:\n  epochs:3",
        1,
        "fit: must be a section with keys (",
        "A space belongs after each colon",
    )
    yield Refused("fit: 30", 1, "fit: must be a section with keys (epochs")
    yield Refused("fit:\n- epochs: 3", 1, "fit: must be a section with keys (epochs")
    yield Refused("fits: {epochs: 3}", 1, "fits: there is no such key", "Did you mean fit?")
    yield Refused(
        "fit: {eopchs: 3}", 1, "fit.eopchs: there is no such key", "Did you mean fit.epochs?"
    )
    yield Refused("fit: {\u0435pochs: 3}", 1, "there is no such key", "Did you mean fit.epochs?")
    yield Refused(
        "fit: {Epochs: 3}", 1, "fit.Epochs: there is no such key", "Did you mean fit.epochs?"
    )
    yield Refused("fit: {lr: 0.1}", 1, "fit.lr: there is no such key", "Known here: ")
    yield Refused("null: 3", 1, "null: there is no such key", "Known here: ")
    yield Refused(
        "? fit\n: {epoch: 1}", 2, "fit.epoch: there is no such key", "Did you mean fit.epochs?"
    )
    yield Refused(
        "device: GPU",
        1,
        "device: must be auto, cpu or gpu; received the text 'GPU'. Did you mean gpu?",
    )
    yield Refused(
        "device: cuda:0", 1, "device: must be auto, cpu or gpu; received the text 'cuda:0'"
    )
    yield Refused("fit: {optimizer: adam}", 1, "fit.optimizer: must be a section with keys (name")
    yield Refused(
        "fit: {optimizer: {name: adam, momentum: 0.9}}", 1, "adam has no momentum", "leave it out"
    )
    yield Refused(
        "fit: {epochs: 2, schedule: {warmup_epochs: 5}}",
        1,
        "warmup_epochs must be smaller than epochs",
    )
    yield Refused("finetune: {unfreeze_from: a, unfreeze_blocks: 2}", 1, "not both")
    yield Refused(
        b"seed: 1\ndata: {source: ''}", 2, "data.source: must be a text that is not empty"
    )
    yield Refused(b"seed: 1\ndata: {source: ~}", 2, "data.source: must be a text; received nothing")
    yield Refused(
        b"seed: 1\ndata: {source: [a, b]}", 2, 'data.source: must be a text; received ["a", "b"]'
    )
    yield Refused(b"seed: 1\n", 1, "data: is missing")
    yield Refused(
        "".join(f"key{i}: 1\n" for i in range(100)), 1, "key0: there is no such key", "100 mistakes"
    )
    yield Refused(f"{'k' * 900}: 1", 1, "kkkkk", "")
    yield Refused('"\\e[31mfit": 1', 1, "\\x1b[31mfit: there is no such key", "Known here")
