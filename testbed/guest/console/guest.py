"""A guest without the test bed's agent: a root's shell on its console answers what the agent would.

It has the verbs of `Shell`, one at a time, with guest time read from /proc/uptime. What only the agent can do raises
UnsupportedError, so that a scenario which needs it is skipped with that reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from typing import TYPE_CHECKING

from testbed.guest.console.own_boot import follow_boot
from testbed.guest.frames import Frame
from testbed.guest.guest import PROTOCOL, Guest
from testbed.guest.shell import PATIENCE, Command, Hello, Shell, Steps, Waited
from testbed.model.errors import BedError, BootError, BrokenError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from testbed.guest.console.commands import ConsoleCommands
    from testbed.guest.console.frames import Answer
    from testbed.machine.launch import Machine

#: seconds in which a guest must be at its shell
BOOT_LIMIT = 600.0
#: seconds after which a command is interrupted, whoever waits for it
_LONGEST = 3600.0
KMSG = "/dev/kmsg"
_SERIALS = "/sys/block/*/serial /sys/block/*/device/serial /sys/block/*/device/vpd_pg80"
#: Copies all messages there are. A reader who has had them sleeps until there is another; dd's `iflag=nonblock`, which
#: would end then, is not in busybox.
_COPY = (
    "cat {} >$T.k 2>$T.g & p=$!; while read -r s x </proc/$p/stat; do "
    "s=${{x##*) }}; case $s in S*) [ -s $T.k ] && break;; Z*) break;; esac; done 2>/dev/null; "
    "kill $p 2>/dev/null; wait $p 2>/dev/null; [ -s $T.k ] || {{ cat $T.g >&2; exit 1; }}"
)
#: what the agent's init does without a program, as scripts: by verb, `$1` and so on being its words
_FIND = f'n=$(grep -lawe "$1" {_SERIALS} 2>/dev/null | head -n 1); n=${{n#/sys/block/}}; n=${{n%%/*}}; [ "$n" ]'
_VERBS = {
    "show": (
        'for p in $*; do if [ -h "$p" ]; then echo "link $p $(readlink "$p")"; '
        'elif [ -f "$p" ] && cat "$p" >$T.f 2>/dev/null; then echo "file $p" $(wc -c <$T.f); cat $T.f; echo; fi; done'
    ),
    "await-disk": (
        f"tbu; e=$((u + $2 * 100)); until {_FIND}; do tbu; [ $u -lt $e ] || exit 3; sleep 0.2; done; echo $n"
    ),
    "prove-disk": (
        f"{_FIND} || exit 3; echo $n; d=/dev/$n; dd if=/dev/urandom of=$T.f bs=64k count=1 2>/dev/null; "
        "dd if=$T.f of=$d bs=64k count=1 oflag=direct conv=notrunc,fsync 2>$T.g || { cat $T.g >&2; exit 1; }; "
        "a=$(sha256sum <$T.f); b=$(dd if=$d bs=64k count=1 iflag=direct 2>$T.g | sha256sum); "
        '[ "$a" = "$b" ] || { echo "other data were read back" >&2; cat $T.g >&2; exit 1; }'
    ),
}


class ConsoleSteps(Steps):
    """A span of guest time in steps; the guest is not held, so what is seen between them is a moment late."""

    def __init__(self, commands: ConsoleCommands, shell: Shell, seconds: float) -> None:
        super().__init__(shell, 0, seconds)
        self._commands = commands
        self._span = seconds

    async def begin(self, seconds: float, *, awake: bool) -> None:
        """Begin the span now."""
        self._span = seconds
        self.started = self.seconds = (await self._commands.ask("true")).ended

    async def go_on(self, step: float) -> bool:
        """Let so many guest seconds pass; return False once the span is over."""
        left = max(0.0, self.started + self._span - self.seconds)
        self.seconds = (await self._commands.ask(f"sleep {min(step, left):.2f}", seconds=PATIENCE + 2 * step)).ended
        return self.seconds < self.started + self._span

    async def cancel(self) -> None:
        """Nothing of it is in the guest."""


class ConsoleShell(Shell):
    """The shell on the console of one guest, which a root has logged in on."""

    def __init__(self, machine: Machine, commands: ConsoleCommands) -> None:
        super().__init__(machine)
        self._commands = commands
        self._running: set[asyncio.Task[None]] = set()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._running:
            each.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await super().__aexit__(kind, error, trace)

    async def _ask_now(self, command: str, *, seconds: float = PATIENCE) -> Answer:
        answer = await self._commands.ask(command, seconds=seconds)
        self.seconds = max(self.seconds, answer.ended)
        return answer

    async def send(self, letter: str, number: int, payload: bytes = b"") -> None:
        """Interrupt what runs; raise UnsupportedError for what only the agent can do."""
        if letter != "K":
            raise UnsupportedError("this needs the test bed's agent, and the guest has only its console")
        await self._commands.interrupt()

    async def check_blocked(self, command: Command, about: str, *, at_work_too: bool) -> None:
        """Raise BrokenError once a command has been waited for long enough: on one line nobody else can look."""
        if at_work_too:
            raise BrokenError(f"console: {command.text!r} does not end, while waiting for {about}")

    async def hello(self) -> Hello:
        """Ask for what the agent would say first."""
        answer = await self._ask_now("uname -r; cat /proc/cmdline")
        release, _, cmdline = answer.stdout.decode("utf-8", "surrogateescape").partition("\n")
        return Hello(protocol=PROTOCOL, release=release, cmdline=cmdline.rstrip("\n"), seconds=answer.ended)

    async def clock(self) -> float:
        """Return the guest's time in seconds since boot."""
        return (await self._ask_now("true")).ended

    async def catch_up(self) -> None:
        """Fetch the kernel messages that have come since; a record may have lines that begin with a blank."""
        since = f"awk -F, -v n={self.log.latest} '/^ /{{if (k) print; next}} {{k = $2 > n}} k' $T.k"
        answer = await self._ask_now(f"{_COPY.format(KMSG)}; {since}")
        if answer.status:
            raise BrokenError(f"console: reading {KMSG}: {answer.stderr.decode('utf-8', 'replace').strip()}")
        self.log.feed(answer.stdout)

    async def sleep(self, seconds: float) -> None:
        """Wait for this many guest seconds."""
        await self._ask_now(f"sleep {seconds:.2f}", seconds=PATIENCE + 2 * seconds)

    async def start_steps(self, seconds: float) -> Steps:
        """Begin a span of guest time in steps."""
        steps = ConsoleSteps(self._commands, self, seconds)
        await steps.begin(seconds, awake=False)
        return steps

    async def start_wait(self, path: str, *, exists: bool, seconds: float) -> Callable[[], Awaitable[Waited]]:
        """Return what waits up to `seconds` of the guest's, from now on, for a path."""
        end = round((await self.clock() + seconds) * 100)
        there = f"ls -d {path} >/dev/null 2>&1"
        true = there if exists else f"! {there}"
        loop = f"until {true}; do tbu; [ $u -lt {end} ] || exit 1; sleep 0.1; done"

        async def wait() -> Waited:
            answer = await self._ask_now(loop, seconds=PATIENCE + 2 * seconds)
            came = answer.status == 0
            what = {"path": path, "exists": came == exists, "guest_seconds": answer.ended}
            evidence = self._machine.journal.shell.write("path", what)
            return Waited(came=came, seconds=answer.ended, evidence=evidence)

        return wait

    async def wait_until_succeeds(self, command: str, *, seconds: float) -> bool:
        """Repeat a command until it succeeds, for up to `seconds` guest seconds; return whether it did."""
        loop = f"tbu; e=$((u + {round(seconds * 100)})); until {{ {command}; }} >/dev/null 2>&1; do "
        loop += "tbu; [ $u -lt $e ] || exit 1; sleep 0.1; done"
        return (await self.run(loop, patience=PATIENCE + 2 * seconds)).status == 0

    async def _start(self, command: str, words: tuple[str, ...]) -> Command:
        if words[0] == "sh":
            script = words[2]
        elif words[0] in _VERBS:
            # patterns of files are for the guest's shell to match
            given = " ".join(words[1:]) if words[0] == "show" else shlex.join(words[1:])
            script = f"set -- {given}; {_VERBS[words[0]]}"
        else:
            raise UnsupportedError(f"{words[0]}: this needs the test bed's agent, and the guest has only its console")
        self._machine.journal.shell.write("started", {"command": command, "guest_seconds": self.seconds})
        running = Command(self, self._machine.journal.shell, self._number(), command)
        task = asyncio.create_task(self._run_to_end(running, script))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return running

    async def _run_to_end(self, running: Command, script: str) -> None:
        """Run a command, and hand its end on as the agent would."""
        number = running.number
        with contextlib.suppress(BedError):  # of a machine that has ended, who waits is told by its watch
            try:
                answer = await self._ask_now(script, seconds=_LONGEST)
            except BrokenError as error:
                running.take(Frame(type="!", id=number, payload=error.message.encode()))
                raise
            at = round(answer.ended * 1e9)
            for letter, data in (("O", answer.stdout), ("E", answer.stderr), ("X", b"exit %d" % answer.status)):
                running.take(Frame(type=letter, id=number, payload=data, nanoseconds=at))


@contextlib.asynccontextmanager
async def boot_by_loader(machine: Machine) -> AsyncIterator[Guest]:
    """Let the disk's own loader boot a machine, log in on its console, and yield the guest.

    Raises BootError with how far it came if it does not come to a shell.
    """
    boot = await follow_boot(machine, seconds=BOOT_LIMIT)
    if boot.stop or boot.commands is None:
        before = "\n".join(boot.before)
        raise BootError(f"boot: came to {boot.stage.word} and no further: {boot.stop}: {boot.words}; last:\n{before}")
    async with ConsoleShell(machine, boot.commands) as shell:
        yield Guest(machine=machine, shell=shell, hello=await shell.hello(), agent=False)
