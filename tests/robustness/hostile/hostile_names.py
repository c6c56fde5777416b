"""Names of files and classes that mean harm to whatever shows or writes them."""

import os

NAMES: dict[str, str] = {
    # Pages
    "element": "<img src=x onerror=alert(1)>",
    "script": "<script>alert(1)<!--",
    "end of style": "<\u2044style><svg onload=alert(1)>",
    "attribute": '" onmouseover="alert(1)',
    "quoted attribute": "' onfocus='alert(1)",
    "entities": "&lt;b&gt;&#x202e;&",
    "address": "javascript:alert(1)",
    "template": "{{7*7}}{% include 'x' %}",
    "expression": "${7*7}#{7*7}",
    # Texts
    "percent": "%s%n%x%(a)s%00",
    "format": "{0.__class__.__init__.__globals__}",
    "markup": "[bold red]x[link=evil]y[reset]",
    "emoji code": ":smile: :warning:",
    "math": r"$\frac{$ \alpha_{",
    "JSON": '"},{"a":"\\',
    "YAML": "- !!python x: {a, &b *b",
    "shell": "$(touch pwned);`touch pwned`|&",
    # Terminals
    "colour": "\x1b[31mred\x1b[2J",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "link": "\x1b]8;;evil\x1b\\x\x1b]8;;\x1b\\",
    "title": "\x1b]0;pwned\x07",
    "eight bits": "\x9b31m\x90q\x9d0;x\x9c",
    "backspace": "evil\b\b\b\bgood\x7f",
    "carriage return": "evil\rgood",
    "line": "a\nerror: all is well",
    "tabulators": "a\tb\vc\fd",
    "other lines": "a\u2028b\u2029c\x85d",
    "right to left": "gpj.\u202etxt",
    "isolates": "\u2066a\u2069\u200f",
    "no width": "a\u200bb\u200d\u2060\ufeff",
    "heap of accents": "a" + "\u0301" * 60,
    "family": "\U0001f469\u200d\U0001f52c\U0001f3f4\U000e0067",
    "not UTF-8": os.fsdecode(b"caf\xe9"),
    "half a surrogate": os.fsdecode(b"\xed\xa0\x80x"),
    # Tables
    "formula": "=cmd|' C calc'!A0",
    "plus": "+1+cmd|' C calc'!A0",
    "minus": "-2+3+cmd|' C calc'!A0",
    "at": "@SUM(1+1)*cmd|' C calc'!A0",
    "tab and formula": "\t=1+1",
    "return and formula": "\r=1+1",
    "wide formula": "\uff1d1+1",
    "separators": 'a,b;"c"\td',
    # Paths
    "dots": "..",
    "parents": "x\\..\\..\\evil",
    "option": "--output=pwned",
    "dash": "-rf",
    "device": "CON",
    "stream": "x.png:evil",
    "blanks": "  x .",
    "long": "\u00e9" * 125,
    "null": "a\u2400b",
    "home": "~root",
    "glob": "*[a-z]?",
}
"""By what they are; none has a slash or a NUL, which no file system takes."""

CLASSES = {key: name for key, name in NAMES.items() if name.isprintable() and name != ".."}
"""Those that a class may have: others are refused before anything is read."""

assert len(NAMES) >= 30
