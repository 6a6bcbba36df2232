"""Host: where a QEMU runs. A process is started there, and its byte channels arrive here.

A machine knows only the protocol, so that it runs inside a guest (guest/level1.py) as well as here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from testbed.host.claim import PREFIX, claimed
from testbed.host.containment import CONTAINED, admit, contained, containment, find_places
from testbed.host.family import END_SECONDS, Family
from testbed.host.tools import find_tool
from testbed.model.errors import BrokenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import PurePath
    from types import TracebackType
    from typing import BinaryIO

    from testbed.host.containment import Containment


class ChildProcess(Protocol):
    """A process on a host."""

    @property
    def pid(self) -> int:
        """Return its process id on that host."""

    async def wait(self) -> int:
        """Wait for its end; return its exit status, or minus the signal that ended it."""

    async def end(self) -> None:
        """Kill it if it still runs, and wait until it is gone."""

    def starved(self) -> float:
        """Return the wall seconds since its start in which it could have run and had no CPU."""


class Listener(Protocol):
    """A place on which one byte channel will arrive."""

    @property
    def address(self) -> str:
        """Return the path of the Unix socket to connect to, as seen on the host."""

    async def accept(self) -> socket.socket:
        """Wait for the peer and return its connected, non-blocking socket."""

    async def close(self) -> None:
        """Listen no more, and close the channel that arrived."""


class Host(Protocol):
    """What a machine needs of the place it runs on."""

    def folder(self, rundir: Path) -> PurePath:
        """Return where on that host the files of a machine are whose rundir is here."""

    async def make_file(self, path: PurePath, size: int) -> None:
        """Create a sparse file of `size` bytes on that host."""

    async def write_file(self, path: PurePath, data: bytes) -> None:
        """Create a file with some content on that host, for a machine to write."""

    async def start(self, argv: Sequence[str], *, log: Path, files: Sequence[BinaryIO] = ()) -> ChildProcess:
        """Start a program whose output goes to `log` and that has open `files`; it dies when the test bed does."""

    async def listen(self, name: str) -> Listener:
        """Listen for one byte channel called `name`."""


class LocalHost:
    """This host. Its sockets live in a private folder for as long as it is entered."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._leave = contextlib.ExitStack()
        self._count = 0

    async def __aenter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            # short, because a Unix socket's path holds at most 107 bytes; mkdtemp makes it 0700
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=runtime_folder()))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(claimed(folder))
            admit(folder)
            self._leave = stack.pop_all()
        self._folder = folder
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder = None
        self._leave.close()

    def folder(self, rundir: Path) -> Path:
        """Return the rundir itself."""
        return rundir

    async def make_file(self, path: PurePath, size: int) -> None:
        """Create a sparse file."""
        with Path(path).open("wb") as file:  # noqa: ASYNC230 (nothing is written)
            file.truncate(size)
        admit(Path(path))

    async def write_file(self, path: PurePath, data: bytes) -> None:
        """Create a file."""
        await asyncio.to_thread(Path(path).write_bytes, data)
        admit(Path(path))

    async def start(self, argv: Sequence[str], *, log: Path, files: Sequence[BinaryIO] = ()) -> LocalProcess:
        """Start a program in a session of its own, so that Ctrl-C reaches the test bed alone, and contained."""
        folders = [log.parent.absolute(), *([self._folder] if self._folder else [])]
        command, how = contained_child(argv, folders=folders)
        if how.uid is not None:
            admit(log.parent)
        log.with_name(CONTAINED).write_text(f"{how}\n")
        family = Family()
        with log.open("ab") as output:
            starting = asyncio.create_task(
                asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=family.environment,
                    start_new_session=True,
                    pass_fds=[file.fileno() for file in files],
                )
            )
            try:
                return LocalProcess(await asyncio.shield(starting), family)
            except asyncio.CancelledError:
                # what contains it may be a shell with children by now
                await LocalProcess(await starting, family).end()
                raise

    async def listen(self, name: str) -> LocalListener:
        """Listen on a socket in the private folder."""
        if self._folder is None:
            raise RuntimeError("LocalHost is used outside its async with block")
        self._count += 1
        listener = LocalListener(self._folder / f"{self._count}.{name}")
        try:
            admit(Path(listener.address))
        except OSError:
            await listener.close()
            raise
        return listener


def runtime_folder() -> str | None:
    """Return the user's runtime folder; None (the temporary folder) where sudo or a container left only its name."""
    folder = os.environ.get("XDG_RUNTIME_DIR")
    return folder if folder and os.access(folder, os.W_OK | os.X_OK) else None


class LocalProcess:
    """A child of the test bed, with all that it started."""

    def __init__(self, process: asyncio.subprocess.Process, family: Family) -> None:
        self._process = process
        self._family = family
        self._starved = 0.0
        self._starved_until = 0.0

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait for its end; return its exit status, or minus the signal that ended it."""
        return await self._process.wait()

    def starved(self) -> float:
        """Return the wall seconds that the thread worst off waited for a CPU; 0 where the kernel counts none.

        Read once a second at most: each command in a guest asks.
        """
        if time.monotonic() >= self._starved_until:
            self._starved, self._starved_until = self._read_starved(), time.monotonic() + 1
        return self._starved

    def _read_starved(self) -> float:
        waits = [0]
        for task in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            # a thread may end at any time
            with contextlib.suppress(OSError, IndexError):
                waits.append(int(task.read_text(encoding="ascii").split()[1]))
        return max(waits) / 1e9

    async def end(self) -> None:
        """Kill it and its family, even if it has ended itself, and wait until they are gone.

        Raises BrokenError if it is still there after END_SECONDS.
        """
        try:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                await asyncio.wait_for(self._process.wait(), END_SECONDS)
        except TimeoutError:
            raise BrokenError(
                f"process {self.pid} was killed, and is still there {END_SECONDS:.0f} s later",
                hint=f"see what keeps it: ps -o pid,stat,wchan:32,args {self.pid}",
            ) from None
        finally:
            await asyncio.to_thread(self._family.end)


class LocalListener:
    """A listening Unix socket that takes one peer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._peer: socket.socket | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        self._socket.listen(1)

    @property
    def address(self) -> str:
        """Return the socket's path."""
        return str(self._path)

    async def accept(self) -> socket.socket:
        """Wait for the peer; take no other after it."""
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        # sock_accept() would drop the peer if it is cancelled a moment too late; accept() itself cannot be
        loop.add_reader(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._socket)
        self._peer, _ = self._socket.accept()
        self._peer.setblocking(False)
        self._stop_listening()
        return self._peer

    async def close(self) -> None:
        """Close and unlink the socket, and close the peer."""
        self._stop_listening()
        if self._peer:
            self._peer.close()

    def _stop_listening(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)


def contained_child(argv: Sequence[str], *, folders: Iterable[Path] = ()) -> tuple[list[str], Containment]:
    """Return the command of a QEMU that dies with its parent and is contained, and how; it may write to `folders`."""
    places = find_places(argv, folders=folders)
    how = containment(places)
    return contained(dies_with_parent(argv), how, places), how


def dies_with_parent(argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` and is killed by the kernel when its parent thread ends.

    setpriv (util-linux) sets the parent-death signal and then execs, so the pid stays the same. Should the parent have
    died before that, the shell sees another parent and starts nothing. Raises BedError if the host has no setpriv.
    """
    only_then = '[ "$PPID" = "$0" ] && exec "$@"'
    return [str(find_tool("setpriv")), "--pdeathsig", "KILL", "--", "sh", "-c", only_then, str(os.getpid()), *argv]
