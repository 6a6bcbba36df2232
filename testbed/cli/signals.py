"""What ends a command from outside: Ctrl-C, SIGTERM, a closed terminal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from testbed.cli.terminal import err

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def run_until_signalled(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end; SIGTERM and SIGHUP end it as Ctrl-C does, with every machine ended."""

    async def ended_by_signals() -> T:
        task = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGHUP):
            if task is not None:
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await main

    try:
        return asyncio.run(ended_by_signals())
    except (asyncio.CancelledError, KeyboardInterrupt):
        # told here: typer ends a KeyboardInterrupt with 130 and without a word
        with contextlib.suppress(OSError):  # the terminal may be what was closed
            err.print("interrupted: every machine is ended")
        raise typer.Exit(130) from None
