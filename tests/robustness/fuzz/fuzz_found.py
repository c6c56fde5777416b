"""What fuzzing has found: the smallest input of each defect that was mended since.

Every run of the tests tries them, and every campaign begins with them too.
"""

from fuzz_bytes import array_members, npy

_BOMB = b"x: &x '" + b"x" * 500_000 + b"'\ny: [" + b"*x, " * 9000 + b"]\n"

FOUND = {
    "a whole number of 5,000 digits: Python refuses to read it": (
        "config",
        b"data: {source: digits}\nseed: " + b"9" * 5000,
    ),
    "a number of 5,000 hexadecimal digits: Python refuses to print it": (
        "config",
        b"data: {source: digits}\nseed: 0x" + b"f" * 5000,
    ),
    "an escape beyond the last character of Unicode": ("config", b'data: "\\UFFFFFFFF"'),
    "a YAML version of 5,000 digits": ("config", b"%YAML 1." + b"1" * 5000 + b"\n--- {}"),
    "half of a character": ("config", b'data: {source: "\\ud800"}'),
    "a text of 500 KB, and 9,000 aliases to it": ("config", _BOMB),
    "texts that YAML 1.1 takes for texts and 1.2 for numbers: dumped without quotes": (
        "config",
        b"data: {source: digits, classes: ['08', '1e3', '0o17']}",
    ),
    "a character that YAML reads as the end of a line: dumped as it is": (
        "config",
        b'data: {source: "\\x85"}',
    ),
    "the home folder of nobody": ("config", b"data: {source: ~nobody-at-all/photos}"),
    "a pattern that repeats too often": (
        "config",
        b"data: {source: digits, label_pattern: '(a{99999999999})'}",
    ),
    "a pattern of too many parentheses": ("pattern", b"(" * 2000 + b"a" + b")" * 2000),
    "a key that a terminal obeys": ("config", b'data: {source: digits}\n"\\e[31m": 1'),
    "a tag that a terminal obeys": ("config", b"data: !%1b[31m x"),
    "a --set that a terminal obeys": ("override", b"fit.\x1b[31m=1"),
    "a --set of a key below one that is not there: the mistake did not name it": (
        "override",
        b"x.y=1",
    ),
    "a pattern that a later Python reads otherwise: a warning": ("pattern", b"([[a])"),
    "a manifest with a name of 300 characters": ("manifest", b"path,label\n" + b"x" * 300 + b",a"),
    "an array in the place of a checkpoint's archive": (
        "sealed_checkpoint",
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}"),
    ),
    "a checkpoint without values": ("sealed_checkpoint", array_members(json="[]")),
}
