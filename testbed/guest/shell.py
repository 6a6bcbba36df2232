"""Shell: commands, waits, files and the clock of the guest, over its ttyS1.

Commands run as children of the guest's init, several at once; waits and timers run in the guest, so that their seconds
are guest seconds. The bed's own patience is in wall seconds: a guest that does not answer within it is silent, and
that is a crash of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from testbed.guest.frames import MAX_PAYLOAD, Frame, FrameDecoder, encode
from testbed.guest.kernel_log import KernelLog
from testbed.guest.lock_owner import find_owner
from testbed.guest.task import find_process, read_stack, still_task, waiting_tasks
from testbed.machine.arrivals import arrivals
from testbed.machine.patience import limited
from testbed.model.errors import BedError, BlockedError, BrokenError, ChannelError, GuestCrashedError
from testbed.model.kernel_log import Crash

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from testbed.machine.journal import JsonLines
    from testbed.machine.launch import Machine

T = TypeVar("T")

#: what the bed waits, in wall seconds, beyond the guest seconds a request may take
PATIENCE = 60.0
#: how often the patience with a command that is at work may run out: on a busy host everything takes long
_PATIENT = 3
#: what the guest's line discipline surely takes in one go
_CHUNK = 2048
#: wall seconds in which a QEMU answers whose guest does not
_QEMU_ANSWERS = 20.0
#: bytes of a command's output; a guest that prints more does not fill the host's memory
MAX_OUTPUT = 64 << 20
#: how many characters of a command's output the journal keeps
_JOURNALLED = 4096

#: whether what waits here is a look at a command that does not return
_LOOKING: ContextVar[bool] = ContextVar("looking", default=False)


@dataclass(frozen=True, kw_only=True)
class Hello:
    """What the guest says first."""

    protocol: str
    release: str
    cmdline: str  #: /proc/cmdline
    seconds: float  #: guest time
    trouble: str = ""  #: why it has not switched to the user space of its disk


@dataclass(frozen=True, kw_only=True)
class Result:
    """The end of a command."""

    command: str
    status: int  #: exit status, or minus the signal
    stdout: bytes
    stderr: bytes
    started: float  #: guest seconds
    ended: float
    evidence: str  #: its line in shell.jsonl

    @property
    def text(self) -> str:
        """Return what it printed, without the last newline."""
        return self.stdout.decode("utf-8", "replace").rstrip("\n")

    @property
    def error(self) -> str:
        """Return what it complained, in one line."""
        return " ".join(self.stderr.decode("utf-8", "replace").split())


@dataclass(frozen=True, kw_only=True)
class Waited:
    """The end of a wait for a path."""

    came: bool  #: whether the path came to be as wanted
    seconds: float  #: guest time of the answer
    evidence: str  #: its line in shell.jsonl


class _Taker(Protocol):
    def take(self, frame: Frame) -> bool:
        """Take a frame that carries this one's number; return whether it is the last."""


class Command:
    """A command that runs in the guest."""

    def __init__(self, shell: Shell, journal: JsonLines, number: int, text: str) -> None:
        self._shell = shell
        self._journal = journal
        #: what the guest knows it by
        self.number = number
        self.text = text
        self._output = {"O": bytearray(), "E": bytearray()}
        self._started = shell.seconds
        self._done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._on_output: Callable[[bytes], None] = lambda _: None

    def follow(self, on_output: Callable[[bytes], None]) -> None:
        """Hand on what it prints and complains as it comes, with what has come so far."""
        on_output(bytes(self._output["O"] + self._output["E"]))
        self._on_output = on_output

    def take(self, frame: Frame) -> bool:
        """Take a frame of this command's."""
        if frame.type in self._output:
            self._keep(frame)
        elif frame.type == "X" and not self._done.done():
            self._done.set_result(self._result(frame))
        elif frame.type == "!":
            self._fail(frame.payload.decode("utf-8", "replace"))
        return frame.type in ("X", "!")

    def _keep(self, frame: Frame) -> None:
        self._on_output(frame.payload)
        if sum(map(len, self._output.values())) + len(frame.payload) <= MAX_OUTPUT:
            self._output[frame.type] += frame.payload
        else:
            self._fail(f"it printed more than {MAX_OUTPUT >> 20} MiB")

    def _fail(self, words: str) -> None:
        if not self._done.done():
            self._done.set_exception(BrokenError(f"guest shell: {self.text}: {words}"))
            self._done.exception()  # nobody may be waiting: mark it as seen

    def _result(self, frame: Frame) -> Result:
        how, _, number = frame.payload.decode("ascii", "replace").partition(" ")
        status = int(number) if number.isdecimal() else 255
        status = -status if how == "signal" else status
        stdout, stderr = bytes(self._output["O"]), bytes(self._output["E"])
        output = (stdout + stderr).decode("utf-8", "replace")[:_JOURNALLED]
        end = {"command": self.text, "status": status, "output": output, "guest_seconds": frame.seconds}
        evidence = self._journal.write("ended", end)
        return Result(
            command=self.text,
            status=status,
            stdout=stdout,
            stderr=stderr,
            started=self._started,
            ended=frame.seconds,
            evidence=evidence,
        )

    def cut_off(self, seconds: float) -> None:
        """End it with the guest that it ran in, at this guest time, as if killed: its result is what it had printed."""
        if not self._done.done():
            self._done.set_result(
                self._result(Frame(type="X", id=self.number, payload=b"signal 9", nanoseconds=round(seconds * 1e9)))
            )

    async def kill(self, signal: int = 9) -> None:
        """Send a signal to the command and all its children."""
        await self._shell.send("K", self.number, bytes([signal]))

    @property
    def ended(self) -> bool:
        """Return whether its end has been heard."""
        return self._done.done()

    async def wait(self, *, patience: float = PATIENCE) -> Result:
        """Wait for its end, in wall seconds of patience.

        Raises GuestCrashedError if the guest is silent by then, and BlockedError if it answers otherwise.
        """
        about = f"the end of {self.text!r}"
        for left in reversed(range(_PATIENT)):
            with contextlib.suppress(TimeoutError):
                return await self._shell.within(patience, asyncio.shield(self._done))
            await self._shell.check_blocked(self, about, at_work_too=not left)
        return await self._shell.patiently(asyncio.shield(self._done), about, patience)


class Steps:
    """A span of guest time in steps; the guest is held at the begin of each."""

    def __init__(self, shell: Shell, number: int, seconds: float) -> None:
        self._shell = shell
        self._number = number
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()
        self._patience = PATIENCE + 2 * seconds
        #: guest seconds at its begin
        self.started = 0.0
        #: guest seconds at the begin of the latest step
        self.seconds = 0.0

    def take(self, frame: Frame) -> bool:
        """Take a frame of this span's."""
        self._frames.put_nowait(frame)
        return frame.type != "S"

    async def begin(self, seconds: float, *, awake: bool) -> None:
        """Ask for the span and wait until the guest is held at its begin, `awake` if its time is warped."""
        await self._shell.send("S", self._number, struct.pack("<II", round(seconds * 1000), awake))
        self.started = self.seconds = (await self._next()).seconds

    async def go_on(self, step: float) -> bool:
        """Let the guest live for `step` of its seconds; return False once the span is over."""
        await self._shell.send("G", self._number, struct.pack("<I", round(step * 1000)))
        frame = await self._next()
        self.seconds = frame.seconds
        return frame.type == "S"

    async def cancel(self) -> None:
        """Let the guest forget the span."""
        self._shell.forget(self._number)
        await self._shell.send("C", self._number)

    async def _next(self) -> Frame:
        return await self._shell.patiently(self._frames.get(), "a step of guest time", self._patience)


class PathWait:
    """A wait for a path that runs in the guest."""

    def __init__(self, journal: JsonLines, path: str, exists: bool) -> None:
        self._journal = journal
        self._path = path
        self._exists = exists
        self._answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()

    def take(self, frame: Frame) -> bool:
        """Take the answer."""
        if not self._answer.done():
            self._answer.set_result(frame)
        return True

    async def wait(self, shell: Shell, patience: float) -> Waited:
        """Wait for the answer; raise BrokenError with the guest's words if there is none to be had."""
        about = f"{self._path} to {'appear' if self._exists else 'go'}"
        frame = await shell.patiently(asyncio.shield(self._answer), about, patience)
        shell.accept(frame, about)
        there = frame.payload == b"1"
        what = {"path": self._path, "exists": there, "guest_seconds": frame.seconds}
        return Waited(came=there == self._exists, seconds=frame.seconds, evidence=self._journal.write("path", what))


class Shell:
    """The command channel of one guest."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._last = 0
        self._answers: dict[int, asyncio.Future[Frame]] = {}
        self._takers: dict[int, _Taker] = {}
        self._hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._decoder = FrameDecoder()
        self._sending = asyncio.Lock()
        self._uploading = asyncio.Lock()
        #: the guest's kernel log
        self.log = KernelLog(machine.rundir, machine.watch)
        #: guest seconds of the latest frame
        self.seconds = 0.0
        self._reader = asyncio.create_task(self._read())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self.log.close()

    # -- the line --

    async def move(self) -> None:
        """Go on in the QEMU to which the machine was migrated, once all that came from the other is read."""
        await asyncio.gather(self._reader, return_exceptions=True)
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        why = "end of file"
        line = self._machine.shell
        try:
            async for data in arrivals(line):
                with self._machine.watch.told("guest shell: taking what came on ttyS1"):
                    for frame in self._decoder.feed(data):
                        self._take(frame)
        except OSError as error:
            why = str(error.strerror)
        if self._machine.shell is not line:  # migrated meanwhile
            return
        with contextlib.suppress(BedError):  # the watch notifies all waiters
            await self._machine.watch.lost(ChannelError(f"guest shell: reading ttyS1: {why}"))

    def _take(self, frame: Frame) -> None:
        self.seconds = max(self.seconds, frame.seconds)
        if frame.type == "M":
            self._log(frame)
        elif frame.type == "H":
            self._greeted(frame)
        elif frame.id in self._takers:
            if self._takers[frame.id].take(frame):
                self.forget(frame.id)
        elif frame.id in self._answers and not self._answers[frame.id].done():
            self._answers[frame.id].set_result(frame)

    def _log(self, frame: Frame) -> None:
        """Take kernel messages, and note when they came: they say only when the kernel made them."""
        first = self.log.lines + 1
        self.log.feed(frame.payload)
        if self.log.lines >= first:
            lines = {"first": first, "last": self.log.lines, "guest_seconds": frame.seconds}
            self._machine.journal.clock.write("kernel_log", lines)

    def _greeted(self, frame: Frame) -> None:
        parts = frame.payload.decode("utf-8", "surrogateescape").split("\0")
        if len(parts) >= 3 and not self._hello.done():
            trouble = parts[3] if len(parts) > 3 else ""
            hello = Hello(protocol=parts[0], release=parts[1], cmdline=parts[2], seconds=frame.seconds, trouble=trouble)
            self._hello.set_result(hello)

    async def send(self, letter: str, number: int, payload: bytes = b"") -> None:
        """Send one frame."""
        async with self._sending:
            data = encode(Frame(type=letter, id=number, payload=payload))
            try:
                await asyncio.get_running_loop().sock_sendall(self._machine.shell, data)
            except OSError as error:
                await self._machine.watch.lost(ChannelError(f"guest shell: writing to ttyS1: {error.strerror}"))

    async def _ask(
        self,
        letter: str,
        payload: bytes,
        *,
        about: str,
        patience: float = PATIENCE,
        number: int | None = None,
    ) -> Frame:
        """Send a request and wait for its one answer; raise BrokenError with the guest's words if it failed."""
        number = number or self._number()
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            await self.send(letter, number, payload)
            frame = await self.patiently(answer, about, patience)
        except asyncio.CancelledError:
            if letter == "T" and self._machine.shell.fileno() >= 0:
                await self.send("C", number)
            raise
        finally:
            del self._answers[number]
        self.accept(frame, about)
        return frame

    def accept(self, frame: Frame, about: str) -> None:
        """Raise BrokenError with the guest's words if a request failed."""
        if frame.type == "!":
            raise BrokenError(f"guest shell: {about}: {frame.payload.decode('utf-8', 'replace')}")

    async def patiently(self, answer: Awaitable[T], about: str, patience: float) -> T:
        """Wait for an answer; raise GuestCrashedError if none comes within `patience` wall seconds.

        Raises ChannelError if QEMU is silent too: then it is not known whose fault it is.
        """
        try:
            return await self.within(patience, answer)
        except TimeoutError:
            words = f"no answer for {patience:.0f} s while waiting for {about}"
            await self._machine.qmp.check_alive(seconds=_QEMU_ANSWERS)
            raise GuestCrashedError(Crash.SILENCE, words, evidence="console.log") from None

    async def within(self, patience: float, answer: Awaitable[T]) -> T:
        """Wait for an answer; raise TimeoutError if none comes in `patience` wall seconds in which QEMU could run."""
        async with limited(patience, self._machine.process.starved):
            return await self._machine.watch.during(answer)

    async def check_blocked(self, command: Command, about: str, *, at_work_too: bool) -> None:
        """Raise BlockedError if a command gets nowhere, or is at work and that counts too.

        Raises GuestCrashedError if the guest answers nothing at all. A look that is blocked itself counts as no answer.
        """
        if _LOOKING.get():
            raise GuestCrashedError(Crash.SILENCE, f"no answer while waiting for {about}", evidence="console.log")
        looking = _LOOKING.set(True)
        try:
            frame = await self._ask("J", struct.pack("<I", command.number), about=about)
            session = int(frame.payload or b"0")
            task = await still_task(self, session)
            if task is None and at_work_too:
                task = await find_process(self, session)
            if task and not command.ended:
                stack, evidence = await read_stack(self, task)
                owner = await find_owner(self, task.pid, stack)
                others = [each for each in await waiting_tasks(self, task) if owner is None or each.task != owner.task]
                others = [owner, *others] if owner else others
                raise BlockedError(command.text, str(task), stack=stack, evidence=evidence, others=others, pid=task.pid)
        finally:
            _LOOKING.reset(looking)

    # -- the verbs --

    async def hello(self) -> Hello:
        """Wait for the guest's first words."""
        return await self._machine.watch.during(asyncio.shield(self._hello))

    @property
    def greeted(self) -> bool:
        """Return whether the guest has said its first words."""
        return self._hello.done()

    def restart(self) -> None:
        """Forget the guest that was, and end its commands: the machine has been reset, the next one will say hello."""
        for taker in self._takers.values():
            if isinstance(taker, Command):
                taker.cut_off(self.seconds)
        self._takers.clear()
        self._hello = asyncio.get_running_loop().create_future()
        self._decoder = FrameDecoder()
        self.log.restart()
        self.seconds = 0.0

    async def clock(self) -> float:
        """Return the guest's time in seconds since boot."""
        return (await self._ask("P", b"", about="the clock")).seconds

    async def catch_up(self) -> None:
        """Wait until every kernel message so far has arrived."""
        await self._ask("L", b"", about="the kernel log")

    async def sleep(self, seconds: float) -> None:
        """Wait for this many guest seconds."""
        payload = struct.pack("<I", round(seconds * 1000))
        await self._ask("T", payload, about=f"a timer of {seconds} s", patience=PATIENCE + 2 * seconds)

    async def start_steps(self, seconds: float) -> Steps:
        """Begin a span of guest time in steps; the guest is held at its begin."""
        number = self._number()
        steps = Steps(self, number, seconds)
        self._takers[number] = steps
        await steps.begin(seconds, awake=self._machine.warped)
        self._machine.journal.shell.write("held", {"for_seconds": seconds, "guest_seconds": steps.started})
        return steps

    async def start_wait(self, path: str, *, exists: bool, seconds: float) -> Callable[[], Awaitable[Waited]]:
        """Ask the guest to wait up to `seconds` of its own for a path; the request is on its way on return."""
        number = self._number()
        waiting = PathWait(self._machine.journal.shell, path, exists)
        self._takers[number] = waiting
        payload = struct.pack("<BI", exists, round(seconds * 1000)) + path.encode()
        await self.send("W", number, payload)
        return partial(waiting.wait, self, PATIENCE + 2 * seconds)

    async def wait_path(self, path: str, *, exists: bool, seconds: float) -> Waited:
        """Wait up to `seconds` guest seconds until a path exists (or no longer does)."""
        return await (await self.start_wait(path, exists=exists, seconds=seconds))()

    async def start(self, command: str) -> Command:
        """Start a shell command in the guest."""
        return await self._start(command, ("sh", "-c", command))

    async def run_verb(self, *words: str, patience: float = PATIENCE) -> Result:
        """Run a verb of the guest's init (guest-images/verbs.c) to its end."""
        return await (await self.start_verb(*words)).wait(patience=patience)

    async def start_verb(self, *words: str) -> Command:
        """Start a verb of the guest's init."""
        return await self._start(" ".join(words), words)

    def adopt(self, number: int, text: str) -> Command:
        """Take over a command that was running when the guest was saved; those that follow have other numbers."""
        self._last = max(self._last, number)
        self._takers[number] = running = Command(self, self._machine.journal.shell, number, text)
        return running

    def forget(self, number: int) -> None:
        """Expect nothing more for a number: a machine may live for thousands of commands."""
        self._takers.pop(number, None)

    def _number(self) -> int:
        self._last += 1
        return self._last

    async def _start(self, command: str, words: tuple[str, ...]) -> Command:
        number = self._number()
        running = Command(self, self._machine.journal.shell, number, command)
        self._takers[number] = running
        payload = b"".join(word.encode() + b"\0" for word in words)
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"guest shell: a command of {len(payload)} bytes does not fit; upload a script")
        self._machine.journal.shell.write("started", {"command": command, "guest_seconds": self.seconds})
        await self.send("R", number, payload)
        return running

    async def run(self, command: str, *, patience: float = PATIENCE) -> Result:
        """Run a shell command in the guest to its end."""
        return await (await self.start(command)).wait(patience=patience)

    async def succeed(self, command: str, *, patience: float = PATIENCE) -> str:
        """Run a command that must succeed and return what it printed; raise BrokenError if it fails."""
        result = await self.run(command, patience=patience)
        if result.status != 0:
            message = result.error or result.text
            raise BrokenError(f"guest shell: {command!r} ended with {result.status}: {message or 'no output'}")
        return result.text

    async def wait_until_succeeds(self, command: str, *, seconds: float) -> bool:
        """Repeat a command in the guest until it succeeds, for up to `seconds` guest seconds; return whether it did."""
        end = f"$(( $(cut -d. -f1 /proc/uptime) + {round(seconds)} ))"
        loop = (
            f"end={end}; until {{ {command}; }} >/dev/null 2>&1; do "
            '[ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || exit 1; usleep 50000; done'
        )
        return (await self.run(loop, patience=PATIENCE + 2 * seconds)).status == 0

    async def put_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Write a file in the guest."""
        async with self._uploading:
            about = f"writing {path}"
            number = self._number()
            await self._ask("U", struct.pack("<I", mode) + path.encode(), about=about, number=number)
            for start in range(0, len(data), _CHUNK):
                await self._ask("D", data[start : start + _CHUNK], about=about, number=number)
            await self._ask("Z", b"", about=about, number=number)
