"""Reading the fields of a protocol: present, of their type, of a value that can be."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from kvroute.engines.errors import RequestRefusedError

MAX_PORT = 65535


def refused(name: str, expected: str, value: object) -> RequestRefusedError:
    """The error that says what `name` should have been."""
    shown = repr(value)
    shown = shown if len(shown) <= 100 else shown[:97] + "..."
    return RequestRefusedError(f"{name}: expected {expected}, got {shown}", name)


class Fields:
    """An object of a request. Every read raises RequestRefusedError naming the field, with `path`
    before it."""

    def __init__(self, path: str, value: object) -> None:
        if not isinstance(value, Mapping):
            raise refused(path, "an object", value)
        self.path = path
        self._values = value

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def name(self, name: str) -> str:
        """The field's full name."""
        return f"{self.path}.{name}" if self.path else name

    def only(self, names: Collection[str]) -> None:
        """No field besides `names`."""
        for name in self._values:
            if name not in names:
                shown = self.name(str(name))
                raise RequestRefusedError(f"{shown}: no such field in this protocol", shown)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._values.get(name)
        if not isinstance(value, bool):
            raise refused(self.name(name), "true or false", value)
        return value

    def text(self, name: str) -> str:
        """A string that is not empty."""
        value = self._values.get(name)
        if not isinstance(value, str) or not value:
            raise refused(self.name(name), "a non-empty string", value)
        return value

    def integer(self, name: str, least: int, most: int) -> int:
        """An integer in a range."""
        value = self._values.get(name)
        if type(value) is not int or not least <= value <= most:
            raise refused(self.name(name), f"an integer from {least} to {most}", value)
        return value

    def port(self, name: str) -> int:
        """A TCP port."""
        return self.integer(name, 1, MAX_PORT)

    def integers(self, name: str, length: int, least: int, most: int) -> list[int]:
        """A list of `length` integers in a range."""
        value = self._values.get(name)
        if (
            not isinstance(value, list)
            or len(value) != length
            or not all(type(one) is int and least <= one <= most for one in value)
        ):
            expected = f"a list of {length} integers from {least} to {most}"
            raise refused(self.name(name), expected, value)
        return value

    def null(self, *names: str) -> None:
        """Null, or not there."""
        for name in names:
            if name in self:
                raise refused(self.name(name), "null", self._values[name])

    def child(self, name: str) -> Fields:
        """An object."""
        return Fields(self.name(name), self._values.get(name))

    def get(self, name: str) -> Any:
        """The value as it is; None where there is none."""
        return self._values.get(name)
