"""CommandFrame: what a command that runs guests has around it: rundir, console, signals, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import typer
from rich.markup import escape

from testbed.campaign.prepared import setup_qemu
from testbed.cli.terminal import err, out
from testbed.cli.terminations import terminations
from testbed.host.accel import Accel, choose_accel
from testbed.host.claim import claimed
from testbed.host.family import ended_runs
from testbed.host.memory import available_mib
from testbed.host.slots import core_count
from testbed.model.errors import InputError, LackingError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from types import TracebackType

    from rich.console import Console

    from testbed.model.setup import Setup

T = TypeVar("T")
#: seconds between two looks at threads that are to end
_PAUSE = 0.1


class CommandFrame:
    """One run of a command: it holds a rundir of its own as long as it is entered, and says where that is at the end.

    `base` is where rundirs are made, or the rundir itself if it is to be gone on with.
    """

    def __init__(self, base: Path, *, stdout_for_programs: bool = False, resumed: bool = False) -> None:
        self.console: Console = err if stdout_for_programs else out
        self.folder = base.resolve()
        self._resumed = resumed
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if not self._resumed:
            self.folder = new_rundir(self.folder)
        self._stack.enter_context(claimed(self.folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        with contextlib.suppress(OSError):  # the terminal may be what was closed
            self.console.print(f"[dim]logs: {escape(str(self.folder))}[/dim]", highlight=False, soft_wrap=True)

    def announce(self, setups: Iterable[Setup], *, jobs: int = 1) -> None:
        """Say once what will run the guests, and why, and how many at once if that may be more than one.

        Raises InputError where `kvm` is wanted and does not work.
        """
        chosen: dict[Accel, None] = {}
        for setup in setups:
            with contextlib.suppress(LackingError):  # the cell itself will say so
                chosen[choose_accel(setup.accel, setup_qemu(setup))] = None
        for accel in chosen:
            self.console.print(f"[dim]accelerator: {escape(str(accel))}[/dim]", highlight=False, soft_wrap=True)
        if jobs > 1:
            room = f"{core_count()} cores, {available_mib()} MiB of memory"
            self.console.print(f"[dim]guests at once: {jobs} at most ({room})[/dim]", highlight=False, soft_wrap=True)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run to the end; SIGTERM and SIGHUP end it as Ctrl-C does, with every machine ended."""
        try:
            return asyncio.run(_ended_by_signals(main))
        except (asyncio.CancelledError, KeyboardInterrupt):
            # told here: typer ends a KeyboardInterrupt with 130 and without a word
            with contextlib.suppress(OSError):  # the terminal may be what was closed
                err.print("interrupted: all machines ended")
            raise typer.Exit(130) from None


async def _ended_by_signals(main: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    for number in terminations():
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await main
    except asyncio.CancelledError:
        await _end_threads()
        raise


async def _end_threads() -> None:
    """End what threads wait for that prepare a cell: asyncio would wait for it, and reading a disk takes minutes."""
    ending = asyncio.create_task(asyncio.get_running_loop().shutdown_default_executor())
    with ended_runs() as end:
        while not ending.done():
            end()
            await asyncio.wait([ending], timeout=_PAUSE)


def new_rundir(base: Path) -> Path:
    """Make a folder below `base`, named after the time; raise InputError if it cannot be made."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = base / f"{stamp}-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"rundir {folder}: {error.strerror}", hint="choose another folder with --rundir") from None
    return folder
