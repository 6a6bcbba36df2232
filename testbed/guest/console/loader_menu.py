"""GRUB's menu on the console: an entry is chosen, and options are added to the line that starts its kernel.

Keys and screens of GRUB 2.06 (grub-core/normal/{menu,menu_text,menu_entry}.c): Ctrl-A is the first entry, Ctrl-N the
next one or the next line, Ctrl-E the end of a line; `e` edits an entry, Ctrl-X boots what was edited.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from testbed.guest.console.screen import Screen
from testbed.machine.patience import limited
from testbed.model.errors import BootError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.machine.launch import Machine

#: what its menu shows last, and what its editor does
MENU, _EDITOR = r"will be executed automatically|before booting or `c' for a command", r"Minimum Emacs-like"
_FIRST, _NEXT, _END, _BOOT, _ENTER = b"\x01", b"\x0e", b"\x05", b"\x18", b"\r"
#: what starts a kernel
_KERNEL_LINE = re.compile(r"\s*(?:linux|linux16|linuxefi)\s")
#: seconds in which it shows what a key did, and without a character after which it has shown all
_SHOWN, _QUIET = 10.0, 0.3
#: what means something to GRUB's script language (GRUB manual, "Quoting")
_SPECIAL = re.compile(r"[\\{}|&$;<>#]")
#: lines of an entry that are looked at
_LINES = 60
#: what stands around a text of the editor's, and at the end of a line that goes on in the next
_FRAME, _GOES_ON = "|", "\\"
_INNER = slice(2, 78)


class LoaderMenu:
    """GRUB's menu, which has appeared."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._console = machine.console
        self._screen = Screen()
        self._changed = asyncio.Event()

    async def choose(self, entry: int, options: str) -> None:
        """Boot an entry, counted from 1, or the default one (0), with options added to its kernel's command line.

        Raises BootError if GRUB does not show what it must.
        """
        typed = _quoted(options)
        self._machine.journal.step("say", _asked(entry, typed))
        with self._console.follow(self._take):
            for key in [_FIRST, *[_NEXT] * (entry - 1)] if entry else []:
                await self._press(key)
            if not options:
                await self._console.write(_ENTER)
                return
            start = self._console.position
            await self._console.write(b"e")
            await self._shows(_EDITOR, start, "its editor")
            await self._settled()
            await self._go_to_kernel_line()
            await self._press(_END)
            await self._console.write(f" {typed}".encode())
            await self._until(lambda: typed.replace(" ", "") in self._text(), "the options that were typed")
            await self._console.write(_BOOT)

    async def _go_to_kernel_line(self) -> None:
        for _ in range(_LINES):
            if _KERNEL_LINE.match(self._screen.rows[self._screen.row][_INNER]):
                return
            await self._press(_NEXT)
        raise BootError(f"boot loader: no line of its entry starts a kernel:\n{self._picture()}")

    def _take(self, data: bytes) -> None:
        self._screen.feed(data.decode("ascii", "replace"))
        self._changed.set()

    async def _press(self, key: bytes) -> None:
        """Press a key, and wait until what it changes stands there."""
        self._changed.clear()
        await self._console.write(key)
        await self._until(self._changed.is_set, "what a key did")
        await self._settled()

    async def _settled(self) -> None:
        """Wait until nothing is drawn any more."""
        while True:
            self._changed.clear()
            try:
                async with limited(_QUIET, self._machine.process.starved):
                    await self._machine.watch.during(self._changed.wait())
            except TimeoutError:
                return

    async def _until(self, true: Callable[[], bool], what: str) -> None:
        try:
            async with limited(_SHOWN, self._machine.process.starved):
                while not true():
                    self._changed.clear()
                    await self._machine.watch.during(self._changed.wait())
        except TimeoutError:
            raise BootError(f"boot loader: it does not show {what}:\n{self._picture()}") from None

    async def _shows(self, pattern: str, start: int, what: str) -> None:
        try:
            async with limited(_SHOWN, self._machine.process.starved):
                await self._console.expect(pattern, start=start)
        except TimeoutError:
            raise BootError(f"boot loader: it does not show {what}:\n{self._picture()}") from None

    def _text(self) -> str:
        """Return all that stands in the editor, without blanks and without where its lines break."""
        rows = (row[_INNER].rstrip().removesuffix(_GOES_ON) for row in self._screen.rows)
        return "".join(rows).replace(" ", "")

    def _picture(self) -> str:
        return "\n".join(line for row in self._screen.rows if (line := row.strip(f" {_FRAME}+-")))


def _asked(entry: int, typed: str) -> str:
    """Return what a person does in the menu."""
    chosen = f"entry {entry}" if entry else "its default entry"
    edited = f"; edit it (e), add {typed} to the line that starts the kernel, boot it (Ctrl-x)" if typed else ""
    return f"in GRUB's menu: {chosen}{edited}"


def _quoted(options: str) -> str:
    """Return options as GRUB's script language has them; raise InputError for what it would change."""
    if '"' in options or "'" in options:
        raise InputError(
            f"--cmdline {options!r}: quotes are GRUB's own", hint="options with quotes cannot be added in its menu"
        )
    return " ".join(f"'{word}'" if _SPECIAL.search(word) else word for word in options.split())
