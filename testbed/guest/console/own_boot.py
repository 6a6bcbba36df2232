"""A guest that its disk's own loader boots, followed on its console alone: how far it comes, and why no further."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from testbed.guest.console.commands import ConsoleCommands
from testbed.guest.console.loader_menu import MENU, LoaderMenu
from testbed.guest.console.login import LoginRefusedError, log_in
from testbed.guest.guest import PROTOCOL, Guest
from testbed.guest.shell import Hello, Shell
from testbed.machine.patience import limited
from testbed.model.boot_stage import STAGES, STOPS, BootStage, BootStop, shown
from testbed.model.errors import BootError, GuestCrashedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from testbed.machine.console import Seen
    from testbed.machine.launch import Machine

#: what silence is called where it is the reason, and a boot that spoke and is not there in time
SILENT, LATE = "silent", "late"
#: wall seconds in which the rest of a line comes
_LINE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A stage that a boot has come to."""

    stage: BootStage
    words: str  #: the line that shows it
    seconds: float  #: since the first instruction
    evidence: str


@dataclass(frozen=True, kw_only=True)
class OwnBoot:
    """How far a boot came."""

    reached: tuple[Reached, ...]
    stop: str = ""  #: why it came no further; empty if it came as far as was asked
    words: str = ""  #: the line that shows it
    before: tuple[str, ...] = ()  #: the lines before that
    evidence: str = "console.log"
    commands: ConsoleCommands | None = None  #: the shell that answers there, if somebody has logged in

    @property
    def stage(self) -> BootStage:
        """Return the latest stage."""
        return self.reached[-1].stage if self.reached else BootStage.NOTHING


@contextlib.asynccontextmanager
async def unspoken(machine: Machine) -> AsyncIterator[Guest]:
    """Yield a guest without a process of the test bed's; the machine waits before its first instruction."""
    async with Shell(machine) as shell:
        hello = Hello(protocol=PROTOCOL, release="", cmdline="", seconds=0.0)
        yield Guest(machine=machine, shell=shell, hello=hello, agent=False)


async def follow_boot(machine: Machine, *, seconds: float, entry: int = 0) -> OwnBoot:
    """Let a machine run and follow its boot to its login, to words that stop it, or to a limit.

    An `entry` of the loader's menu, counted from 1, is chosen, and the machine's command line added to it. Who is to
    log in does so; then the boot has come to a shell. The limit is in seconds in which the guest could run: those in
    which a busy host gave its QEMU no CPU do not count.

    Raises what ended QEMU, and BootError if the loader's menu cannot be had; a guest that crashes has stopped.
    """
    follower = _Follower(machine, entry)
    await machine.qmp.execute("cont")
    with contextlib.suppress(TimeoutError):
        async with limited(seconds, machine.process.starved):
            try:
                return await follower.run()
            except GuestCrashedError as crash:
                return follower.stopped(crash.crash.value, crash.words, evidence=crash.evidence)
            except LoginRefusedError as refused:
                return follower.stopped(refused.name, refused.words, evidence=refused.evidence)
    words = f"no word of {follower.awaited} within {seconds:.0f} s"
    # a kernel whose console is another says nothing, whether it runs or not
    return follower.stopped(LATE if follower.stage > BootStage.LOADER else SILENT, words)


class _Follower:
    """What has been seen so far of one boot."""

    def __init__(self, machine: Machine, entry: int) -> None:
        self._machine = machine
        self._console = machine.console
        self._entry = entry
        #: whether the loader's menu is still to be asked for something
        self._asks = bool(entry or machine.boot.cmdline)
        self._reached: list[Reached] = []
        #: where the words of each stage stand: a line comes in pieces, and is whole only later
        self._places: list[int] = []
        self._cursor = self._console.position
        self._begun = machine.journal.shell.seconds

    @property
    def stage(self) -> BootStage:
        """Return the stage reached."""
        return self._reached[-1].stage if self._reached else BootStage.NOTHING

    @property
    def awaited(self) -> str:
        """Return what the next stage is called."""
        return BootStage(min(self.stage + 1, BootStage.SHELL)).word

    async def run(self) -> OwnBoot:
        """Follow it to its end."""
        while self.stage is not BootStage.LOGIN:
            if stop := await self._step():
                return stop
        commands = None
        if login := self._machine.boot.login:
            await log_in(self._machine, login, start=self._cursor)
            commands = ConsoleCommands(self._machine)
            place = self._console.position
            await commands.begin()
            self._reach(BootStage.SHELL, place, commands.evidence)
        return OwnBoot(reached=self._all(), commands=commands)

    async def _step(self) -> OwnBoot | None:
        """Wait for the next words; return the boot if they stop it."""
        stages = [stage for stage in STAGES if stage > self.stage]
        patterns = [*(STAGES[stage] for stage in stages), *(stop.pattern for stop in STOPS)]
        seen = await self._console.expect_first([*patterns, *([MENU] if self._asks else [])], start=self._cursor)
        self._cursor = seen.end
        if seen.index == len(patterns):
            self._asks = False
            await LoaderMenu(self._machine).choose(self._entry, self._machine.boot.cmdline)
            self._cursor = self._console.position
            return None
        if seen.index >= len(stages):
            return await self._stopped_by(STOPS[seen.index - len(stages)], seen)
        self._reach(stages[seen.index], seen.start, seen.evidence)
        if self._asks and self.stage > BootStage.LOADER:
            raise BootError(
                "boot loader: no GRUB menu appeared on the serial console",
                hint="options are added and entries chosen in that menu; without --cmdline its default entry boots",
            )
        return None

    async def _stopped_by(self, stop: BootStop, seen: Seen) -> OwnBoot:
        with contextlib.suppress(TimeoutError):  # a prompt has no end of line
            async with asyncio.timeout(_LINE_SECONDS):
                await self._console.expect(r"\n", start=seen.end)
        if stop.stage > self.stage:
            self._reach(stop.stage, seen.start, seen.evidence)
        words = shown(self._console.line_at(seen.start))
        return self.stopped(stop.name, words, evidence=seen.evidence, position=seen.start)

    def _reach(self, stage: BootStage, place: int, evidence: str) -> None:
        seconds = round(self._machine.journal.shell.seconds - self._begun, 1)
        self._reached.append(Reached(stage=stage, words="", seconds=seconds, evidence=evidence))
        self._places.append(place)
        self._machine.journal.shell.write("boot", {"stage": stage.word, "seconds": seconds})

    def _all(self) -> tuple[Reached, ...]:
        words = (shown(self._console.line_at(place)).strip() for place in self._places)
        return tuple(replace(each, words=said) for each, said in zip(self._reached, words, strict=True))

    def stopped(self, name: str, words: str, *, evidence: str = "console.log", position: int | None = None) -> OwnBoot:
        """Return a boot that came no further."""
        at = self._console.position if position is None else position
        before = tuple(line for each in self._console.before(at) if (line := shown(each).strip()))
        return OwnBoot(reached=self._all(), stop=name, words=words.strip(), before=before, evidence=evidence)
