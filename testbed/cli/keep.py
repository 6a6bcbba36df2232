"""`run --keep`: a judged machine stays alive until the person who looks at it says go on."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from typing import TYPE_CHECKING

from rich.markup import escape

from testbed.cli.options import Keep
from testbed.guest.console_shell import console_shell
from testbed.machine.attach import Attach, relay_console
from testbed.model.outcome import Verdict

if TYPE_CHECKING:
    from rich.console import Console

    from testbed.campaign.cell.run import Judged
    from testbed.cli.standard_input import StandardInput


class Keeper:
    """Keeps the machines whose verdict fits, one at a time, until Enter or the end of standard input."""

    def __init__(self, keep: Keep, console: Console, stdin: StandardInput) -> None:
        self._verdicts = set(Verdict) if keep is Keep.ALL else {Verdict(keep.value)}
        self._console = console
        self._stdin = stdin

    async def on_verdict(self, judged: Judged) -> None:
        """Keep a machine if its verdict fits and its QEMU still runs."""
        attach = judged.machine.attach
        if judged.outcome.verdict not in self._verdicts or attach is None:
            return
        ending = asyncio.create_task(judged.machine.process.wait())
        try:
            await asyncio.sleep(0)  # a process that has ended is noticed at once
            if ending.done():
                self._print(f"{judged.outcome.id}: nothing to keep, QEMU has ended")
            else:
                await self._hold(judged, attach, ending)
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def _hold(self, judged: Judged, attach: Attach, ending: asyncio.Task[int]) -> None:
        async with relay_console(judged.machine.console, attach.console), contextlib.AsyncExitStack() as stack:
            if judged.guest and judged.guest.agent:
                await stack.enter_async_context(console_shell(judged.guest))
            for line in _how_to_attach(judged, attach):
                self._print(line)
            judged.progress("kept: Enter ends it")
            going_on = asyncio.create_task(self._stdin.line())
            try:
                await asyncio.wait({going_on, ending}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                going_on.cancel()
                await asyncio.gather(going_on, return_exceptions=True)
        self._print("the kept QEMU has ended" if ending.done() else "moving on: the kept machine has been ended")

    def _print(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)


def _how_to_attach(judged: Judged, attach: Attach) -> list[str]:
    """Return what to paste into another terminal."""
    kernel = shlex.quote(str(judged.machine.boot.kernel)) if judged.machine.boot.kernel else ""
    target = shlex.quote(f"target remote {attach.gdb}")
    console, qmp = shlex.quote(f"UNIX-CONNECT:{attach.console}"), shlex.quote(f"UNIX-CONNECT:{attach.qmp}")
    if judged.guest is None:
        shell = "kernel messages; no guest answered, so no shell"
    else:
        shell = "a shell, and kernel messages" if judged.guest.agent else "used by the disk's own system"
    return [
        f"kept: {judged.outcome.id}: {judged.outcome.verdict}; in another terminal:",
        f"  console  socat -,raw,echo=0,escape=0x1d {console}    # {shell}; Ctrl-] leaves",
        f"  QMP      qmp-shell {shlex.quote(attach.qmp)}",
        f"""           socat - {qmp}    # first: {{"execute": "qmp_capabilities"}}""",
        f"  gdb      gdb -ex {target} {kernel}    # the guest stops while gdb is attached, until it detaches",
        f"  logs     {judged.outcome.rundir}",
        "Enter ends this machine and moves on; Ctrl-C ends everything.",
    ]
