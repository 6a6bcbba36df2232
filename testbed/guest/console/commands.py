"""Commands by the shell of a guest's console: one after the other, each with its exact output and status."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from testbed.guest.console.frames import READY, SERVE, AnswerFrames, typed_again, typed_command
from testbed.guest.shell import Result
from testbed.machine.patience import limited
from testbed.model.boot_stage import shown
from testbed.model.errors import BrokenError

if TYPE_CHECKING:
    from testbed.guest.console.frames import Answer
    from testbed.machine.launch import Machine

#: seconds that a command may take if nothing is said
SECONDS = 60.0
#: seconds without a byte of an answer that has begun, or after which one whose end was damaged is asked for again
_STALLED = 5.0
#: how often parts of an answer are asked for again
_TIMES = 50
_INTERRUPT = b"\x03"


class ConsoleCommands:
    """A shell on a guest's console that has been told to serve."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._console = machine.console
        self._last = 0
        self._busy = asyncio.Lock()
        #: how often parts of answers had to be asked for again
        self.repeated = 0
        #: guest seconds when the latest answer was given
        self.seconds = 0.0
        #: the first answer's line in shell.jsonl
        self.evidence = ""

    async def begin(self) -> None:
        """Tell the shell whose prompt is there to serve; raise BrokenError with what it prints if it does not."""
        start = self._console.position
        await self._console.write(SERVE.encode() + b"\n")
        try:
            async with limited(SECONDS, self._machine.process.starved):
                await self._console.expect(READY, start=start)
        except TimeoutError:
            last = shown(self._console.tail())
            raise BrokenError(f"console: its shell cannot be used; its last output:\n{last}") from None
        tools = await self.run("command -v base64 sha256sum tr")
        if tools.status:
            raise BrokenError("console: the guest lacks base64, sha256sum or tr, which the shell needs to answer")
        self.evidence = tools.evidence

    async def run(self, command: str) -> Result:
        """Run a command to its end, and note it; raise as `ask` does."""
        journal = self._machine.journal.shell
        journal.write("started", {"command": command, "guest_seconds": self.seconds})
        return self._result(command, await self.ask(command))

    async def interrupt(self) -> None:
        """Interrupt the command that runs."""
        await self._console.write(_INTERRUPT)

    async def ask(self, command: str, *, seconds: float = SECONDS) -> Answer:
        """Run a command to its end; it is interrupted after so many seconds, and BrokenError raised."""
        async with self._busy:
            self._last += 1
            frames = AnswerFrames(number=self._last)
            came = asyncio.Event()

            def take(data: bytes) -> None:
                frames.feed(data)
                came.set()

            with self._console.follow(take):
                for line in typed_command(self._last, command):
                    await self._console.write(line)
                try:
                    async with limited(seconds, self._machine.process.starved):
                        answer = await self._answer(frames, came)
                except TimeoutError:
                    await self.interrupt()
                    raise BrokenError(f"console: {command!r} did not end within {seconds:.0f} s") from None
            self.seconds = answer.ended
            return answer

    async def _answer(self, frames: AnswerFrames, came: asyncio.Event) -> Answer:
        for _ in range(_TIMES):
            await self._until_ended(frames, came)
            if answer := frames.answer():
                return answer
            self.repeated += 1
            frames.ends = 0
            await self._console.write(typed_again(frames.number, frames.missing))
        raise BrokenError(f"console: an answer arrived damaged {_TIMES} times")

    async def _until_ended(self, frames: AnswerFrames, came: asyncio.Event) -> None:
        """Wait until an answer has ended, or has begun and does not go on."""
        while not frames.ends:
            came.clear()
            if not frames.begun:
                await self._machine.watch.during(came.wait())
                continue
            try:
                async with limited(_STALLED, self._machine.process.starved):
                    await self._machine.watch.during(came.wait())
            except TimeoutError:
                return

    def _result(self, command: str, answer: Answer) -> Result:
        output = (answer.stdout + answer.stderr).decode("utf-8", "replace")[:4096]
        end = {"command": command, "status": answer.status, "output": output, "guest_seconds": answer.ended}
        return Result(
            command=command,
            status=answer.status,
            stdout=answer.stdout,
            stderr=answer.stderr,
            started=answer.began,
            ended=answer.ended,
            evidence=self._machine.journal.shell.write("ended", end),
        )
