"""A boot entry of a disk: what its boot loader starts, and with which command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: no boot loader's file is read beyond this size: the disk may be hostile
MAX_LINES = 20_000
MAX_ENTRIES = 500
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]{0,63})\}|([A-Za-z_][A-Za-z0-9_]{0,63}))")
_MAX_EXPANDED = 1 << 14


@dataclass(frozen=True, kw_only=True)
class BootEntry:
    """One entry."""

    title: str
    kernel: str  #: the path as the boot loader has it
    cmdline: str
    initrds: tuple[str, ...] = ()
    source: str  #: the file and line it stands at
    names: tuple[str, ...] = ()  #: what a default may call it
    default: bool = False


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return a text with `$name` and `${name}` replaced, once; an unknown one is empty."""
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], ""), text)[:_MAX_EXPANDED]


def one_line(words: list[str]) -> str:
    """Return words as the command line a kernel gets, without blanks at its ends."""
    return " ".join(" ".join(words).split("\n")).strip()
