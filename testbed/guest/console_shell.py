"""A shell for a person on the guest's console (ttyS0)."""

from __future__ import annotations

import contextlib
import math
import signal
from typing import TYPE_CHECKING

from testbed.model.errors import BedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from testbed.guest.guest import Guest

_TTY = "/dev/ttyS0"


@contextlib.asynccontextmanager
async def console_shell(
    guest: Guest, *, rows: int = 24, columns: int = 80
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Run a shell on ttyS0, with job control, and end it on leaving; yield what waits for its own end.

    The guest's init starts every command as the leader of a session; its first open of a terminal makes that the
    session's own. What a person leaves running in the background stays.
    """
    terminal = f"stty sane rows {rows} cols {columns}"
    script = f"export TERM=vt100 PS1='guest# '; exec <{_TTY} >{_TTY} 2>&1; {terminal}; exec sh -i"
    running = await guest.shell.start(script)

    async def ended() -> None:
        await running.wait(patience=math.inf)

    try:
        yield ended
    finally:
        with contextlib.suppress(BedError):  # a machine that has ended has no shell to end
            await running.kill(signal.SIGKILL)
