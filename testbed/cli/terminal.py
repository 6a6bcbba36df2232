"""The two streams a person sees, and the plain one that programs read."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from testbed.model.errors import BrokenError, InputError
from testbed.model.printable import harmless
from testbed.report.folded import Folded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

#: columns of the output where it goes to no terminal: a file or a CI log should not be folded at 80
_WIDE = 160
#: what says that a disk takes no more
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class HarmlessConsole(Console):
    """A console on which only its own colours and movements control the terminal, whatever the texts hold.

    Nearly every text has words of a guest's in it: a finding, a reason, an id. Here, where all of them pass, none is
    forgotten. `:x:`, as in a line of /etc/passwd, is what it says, and no picture.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        return super()._render_buffer(
            each if each.control else Segment(harmless(each.text), each.style) for each in buffer
        )


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    free = not stream.isatty() and "COLUMNS" not in os.environ
    return HarmlessConsole(stderr=stderr, width=_WIDE if free else None)


out = _console(stderr=False)
err = _console(stderr=True)


def print_section(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a titled list of names and texts."""
    table = Table(title=title, title_justify="left", show_header=False, show_edge=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, text in rows:
        table.add_row(escape(name), Folded(text))
    out.print(table, highlight=False)
    out.print()


def plain(text: str) -> None:
    """Print text as it is, for programs and for pasting."""
    sys.stdout.write(text + "\n")


def show_progress(message: str) -> None:
    """Say what takes a while, beside the output."""
    err.print(f"[dim]{escape(message)}[/dim]", highlight=False)


def write_text(text: str, path: Path) -> None:
    """Write a file, or stdout for `-`; raise InputError if it cannot be written, BrokenError if the disk is full."""
    if str(path) == "-":
        plain(text.rstrip())
        return
    try:
        path.write_text(text)
    except OSError as error:
        kind = BrokenError if error.errno in _FULL else InputError
        raise kind(f"writing {path}: {error.strerror}") from None


def check_writable(path: Path) -> None:
    """Raise InputError before anything runs if `path` could not be written after it."""
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise InputError(f"writing {path}: it cannot be written", hint="choose a file in an existing folder")
