"""Parameter: what can be set of a machine template (`-p`) or a scenario (`-s`), with its type and limits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from testbed.model.errors import InputError
from testbed.model.value_text import SWITCHES, ValueReader

if TYPE_CHECKING:
    from collections.abc import Container

_TYPES: dict[str, type] = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict, "size": int}
_SIZE = re.compile(r"([0-9]{1,12})([KMGT]?)i?B?", re.IGNORECASE)
_SHIFTS = {"K": 10, "M": 20, "G": 30, "T": 40}


def size_in_bytes(text: str, *, unit: str = "") -> int:
    """Return the bytes that `512M` says, with QEMU's suffixes (powers of 1024); a bare number counts `unit`s.

    Raises ValueError if it is not a size.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a size such as 512M")
    suffix = match[2].upper() or unit
    return int(match[1]) << _SHIFTS.get(suffix, 0)


class Parameter(BaseModel):
    """One declared parameter of a template, or option of a scenario."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    #: `size`: a whole number of MiB, which may be written with a suffix
    type: Literal["str", "int", "bool", "list", "dict", "size"]
    default: Any
    doc: str
    choices: list[str] | None = None
    min: int | None = None
    max: int | None = None

    def parse(self, text: str) -> Any:
        """Return the value that `NAME=text` means; raise ValueError if it is not one of this type.

        A text is taken as it stands, or quoted.
        """
        if self.type == "str" and not text.startswith('"'):
            return text
        reader = ValueReader(text, what="value")
        try:
            value = self.read(reader)
            if reader.rest:
                reader.fail("expected the end")
        except InputError as error:
            raise ValueError(error.message) from None
        return value

    def read(self, reader: ValueReader, names: Container[str] = ()) -> Any:
        """Read the value; a comma before one of `names` and `=` ends it. Raises InputError."""
        if self.type == "list":
            return reader.items(names)
        if self.type == "dict":
            return reader.mapping(names)
        start, text = reader.at, reader.text_value()
        if self.type == "str":
            return text
        try:
            return self._scalar(text)
        except ValueError as error:
            reader.at = start
            reader.fail(f"wanted {self.type}: {error}")

    def _scalar(self, text: str) -> Any:
        if self.type == "int":
            return int(text, 0)
        if self.type == "size":
            return self._mebibytes(text)
        return SWITCHES.get(text.lower(), text)

    def checked(self, value: Any) -> Any:
        """Return a value as a file or a program gives it, in the type declared; raise ValueError if it is not one."""
        if self.type == "size" and isinstance(value, str):
            value = self._mebibytes(value)
        if problem := self.problem(value):
            raise ValueError(problem)
        return value

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        wanted = _TYPES[self.type]
        number = value if isinstance(value, int) else 0
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            return f"got {type(value).__name__} {value!r}, wanted {self.type}"
        if self.choices is not None and value not in self.choices:
            return f"got {value!r}, wanted one of {', '.join(self.choices)}"
        if self.min is not None and number < self.min:
            return f"got {value}, wanted at least {self.min}"
        if self.max is not None and number > self.max:
            return f"got {value}, wanted at most {self.max}"
        return None

    def _mebibytes(self, text: str) -> int:
        try:
            bytes_ = int(text, 0) << 20
        except ValueError:
            bytes_ = size_in_bytes(text, unit="M")
        if bytes_ % (1 << 20):
            raise ValueError(f"{text!r} is not a whole number of MiB")
        return bytes_ >> 20
