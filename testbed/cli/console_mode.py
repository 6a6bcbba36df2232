"""The terminal as the guest's console: every byte goes through, both ways, until Ctrl-]."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from typing import TYPE_CHECKING

from testbed.cli.standard_input import at_terminal
from testbed.guest.console_shell import console_shell
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testbed.cli.standard_input import StandardInput
    from testbed.guest.guest import Guest
    from testbed.machine.launch import Machine

ESCAPE = b"\x1d"  # Ctrl-], as in telnet


async def attach_console(
    machine: Machine, guest: Guest | None, *, stdin: StandardInput, say: Callable[[str], None]
) -> None:
    """Give the terminal to ttyS0, with a shell on it if the guest answers; return when the person leaves it."""
    if not at_terminal():
        raise InputError("console: needs a terminal", hint="here, use: sh COMMAND")
    if guest and not guest.agent:
        raise InputError("console: the test bed itself uses it (--via console)", hint="use: sh COMMAND")
    say("Ctrl-] leaves the console" + ("" if guest else "; no guest answers, so it has no shell"))
    with _raw_terminal(), machine.console.follow(_to_terminal):
        typing = asyncio.create_task(_type(machine, stdin))
        try:
            await machine.watch.during(_until_left(guest, typing))
        finally:
            typing.cancel()
            await asyncio.gather(typing, return_exceptions=True)
    say("\nleft the console")


async def _until_left(guest: Guest | None, typing: asyncio.Task[None]) -> None:
    """Wait until the person leaves, or the shell ends by `exit`."""
    if guest is None:
        await asyncio.wait({typing})
        return
    # the terminal itself: COLUMNS and LINES may be of another
    size = os.get_terminal_size(sys.stdin.fileno())
    async with console_shell(guest, rows=size.lines, columns=size.columns) as ended:
        ending = asyncio.ensure_future(ended())
        try:
            await asyncio.wait({typing, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)


async def _type(machine: Machine, stdin: StandardInput) -> None:
    while data := await stdin.read():
        before, escape, _ = data.partition(ESCAPE)
        if before:
            await machine.console.write(before)
        if escape:
            return


def _to_terminal(data: bytes) -> None:
    with contextlib.suppress(OSError):  # a terminal that was closed
        os.write(sys.stdout.fileno(), data)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # a terminal that was closed
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
