"""Where the values of a config come from."""

from collections.abc import Mapping

KeyPath = tuple[str | int, ...]
"""Keys and positions in lists that lead to a value of a config."""


class Origins:
    """Where each value came from, for messages: a line of the file or a --set.

    Any two are equal: configs that say the same are the same, wherever it is said.
    """

    def __init__(self, name: str, lines: Mapping[KeyPath, int]):
        self.name = name
        self.lines = dict(lines)
        self.overridden: dict[KeyPath, str] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origins)

    def of(self, path: KeyPath) -> str:
        """`file:line` or `--set ...` of the value at `path`, of what it stands in, or in it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.overridden:
                return self.overridden[path[:length]]
            if path[:length] in self.lines and (length or not self.overridden):
                return f"{self.name}:{self.lines[path[:length]]}"
        below = (said for key, said in self.overridden.items() if key[: len(path)] == path)
        return next(below, self.name) if path else self.name
