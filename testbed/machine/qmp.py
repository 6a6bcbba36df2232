"""QMP: commands to QEMU, and its events, none of them lost.

Listen before the command that causes an event:

    with qmp.listen("DEVICE_DELETED", device="dev1") as deleted:
        await qmp.execute("device_del", {"id": "dev1"})
        event = await deleted.wait()
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError

from testbed.model.errors import BrokenError, ChannelError, RefusedError
from testbed.model.kernel_log import Crash

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from testbed.machine.journal import Journal
    from testbed.machine.watch import Watch

#: commands that look and change nothing: a reproduction need not repeat them
LOOKS = ("query-", "qom-list", "qom-get", "qmp_capabilities", "device-list-properties")

#: how the journal marks what the QEMU said to which a machine migrated
DESTINATION = "destination"

#: wall seconds in which QEMU answers a command, each of which only starts what takes long; 0.001 s is usual, and a busy
#: host a hundred times slower
ANSWER_SECONDS = 120.0

#: QEMU is killed next: nothing is lost if it does not say goodbye
_DISCONNECT_SECONDS = 2.0

#: the library reports an EOF on teardown as an error; QEMU's end is noticed by its process here
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


@dataclass(frozen=True, kw_only=True)
class Event:
    """A QMP event."""

    name: str
    data: Mapping[str, Any]
    evidence: str  #: its line in qmp.jsonl


class EventWaiter:
    """Waits for the first event that matches; made by `Qmp.listen`."""

    def __init__(self, watch: Watch, names: tuple[str, ...], data: Mapping[str, Any]) -> None:
        self._watch = watch
        self._names = names
        self._data = data
        self._seen: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

    @property
    def event(self) -> Event | None:
        """Return the event if it has come."""
        return self._seen.result() if self._seen.done() else None

    def offer(self, event: Event) -> None:
        """Take the event if it is the one waited for."""
        matches = event.name in self._names and all(event.data.get(key) == value for key, value in self._data.items())
        if matches and not self._seen.done():
            self._seen.set_result(event)

    async def wait(self) -> Event:
        """Wait for the event, or raise what ended the machine."""
        return await self._watch.during(asyncio.shield(self._seen))


class Qmp:
    """The QMP connection of one machine; every message is journalled, those of a migration's `destination` marked."""

    def __init__(self, journal: Journal, watch: Watch, *, destination: bool = False) -> None:
        self._marks = {"qemu": DESTINATION} if destination else {}
        self._client = QMPClient("testbed")
        self._journal = journal
        self._watch = watch
        self._listener = EventListener()
        self._waiters: list[EventWaiter] = []
        self._queues: list[tuple[str, asyncio.Queue[Mapping[str, Any]]]] = []
        self._followers: list[Callable[[Event], None]] = []
        self._left_out: list[tuple[str, ...]] = []
        self._pump: asyncio.Task[None] | None = None
        #: every event so far
        self.events: list[Event] = []
        #: where the last successful reply stands in the journal
        self.last_reply = ""

    async def connect(self, peer: socket.socket, *, greeted: bool = False) -> Self:
        """Greet QEMU over a connected socket; raise ChannelError if it does not answer as QMP does.

        One that was `greeted` before it was saved has nothing to say now.
        """
        self._client.await_greeting = self._client.negotiate = not greeted
        self._client.register_listener(self._listener)
        try:
            await self._client.connect(peer)
        except QMPError as error:
            raise ChannelError(f"QMP: greeting QEMU: {error}") from None
        self._pump = asyncio.create_task(self._deliver())
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_pump()
        await self._disconnect()

    async def take_over(self, other: Qmp) -> None:
        """Go on as another connection, to the QEMU that has the machine now; whoever listens hears that one."""
        await self._stop_pump()
        await other._stop_pump()
        await self._disconnect()
        self._client, self._listener, self._marks = other._client, other._listener, other._marks
        self._pump = asyncio.create_task(self._deliver())

    async def _stop_pump(self) -> None:
        if self._pump:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
            self._pump = None

    async def _disconnect(self) -> None:
        # EOFError and the like: QEMU may be gone already, which is what its process tells
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.disconnect(), _DISCONNECT_SECONDS)

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Run a command, which a reproduction repeats, and return its value; raise RefusedError with QEMU's words."""
        if not command.startswith(LOOKS):
            self._journal.step("qmp", json.dumps(_message(command, arguments)))
        return await self.execute_unrepeated(command, arguments)

    async def execute_unrepeated(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Run a command of the bed's own housekeeping, which a reproduction does not repeat."""
        self._write("command", _message(command, arguments))
        try:
            value = await self._answer(command, arguments)
        except ExecuteError as error:
            words = str(error)
            evidence = self._write("error", {"class": error.error_class, "desc": words})
            raise RefusedError(command, words, evidence=evidence) from None
        except QMPError as error:
            await self._watch.lost(ChannelError(f"QMP: {command}: {error}"))
        self.last_reply = self._write("return", value)
        return value

    def send_descriptor(self, descriptor: int) -> None:
        """Hand a file to QEMU; the next command (`getfd`, `add-fd`) takes it."""
        self._client.send_fd_scm(descriptor)

    async def execute_unlogged(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """Run a command that changes nothing, many times over: the journal has no line of it."""
        try:
            return await self._answer(command, arguments)
        except QMPError as error:
            await self._watch.lost(ChannelError(f"QMP: {command}: {error}"))

    async def check_alive(self, *, seconds: float) -> None:
        """Raise ChannelError if QEMU answers nothing for this long: whatever is silent then, it is not the guest."""
        await self._answer("query-status", None, seconds=seconds)

    async def _answer(self, command: str, arguments: Mapping[str, Any] | None, *, seconds: float | None = None) -> Any:
        """Return the answer to a command; QEMU is lost if it gives none in time."""
        seconds = ANSWER_SECONDS if seconds is None else seconds
        asked = self._client.execute(command, dict(arguments) if arguments else None)
        try:
            async with asyncio.timeout(seconds):
                return await self._watch.during(asked)
        except TimeoutError:
            error = ChannelError(
                f"QMP: {command}: QEMU did not answer within {seconds:.0f} s",
                hint="its process hangs or was stopped, or the host is overloaded: see top",
            )
            self._watch.fail(error)
            raise error from None

    @contextlib.contextmanager
    def listen(self, *names: str, **data: Any) -> Iterator[EventWaiter]:
        """Listen for the first event of one of these names whose data has these values."""
        waiter = EventWaiter(self._watch, names, data)
        self._waiters.append(waiter)
        try:
            yield waiter
        finally:
            self._waiters.remove(waiter)

    @contextlib.contextmanager
    def follow(self, take: Callable[[Event], None]) -> Iterator[None]:
        """Hand every event from now on to `take`."""
        self._followers.append(take)
        try:
            yield
        finally:
            self._followers.remove(take)

    @contextlib.contextmanager
    def left_out(self, *names: str) -> Iterator[None]:
        """Drop these events meanwhile: whoever asks for this causes hundreds of them a second."""
        self._left_out.append(names)
        try:
            yield
        finally:
            self._left_out.remove(names)

    @contextlib.contextmanager
    def listen_all(self, name: str) -> Iterator[asyncio.Queue[Mapping[str, Any]]]:
        """Listen for every event of this name, and queue its data."""
        queue: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._queues.append((name, queue))
        try:
            yield queue
        finally:
            self._queues.remove((name, queue))

    async def _deliver(self) -> None:
        async for message in self._listener:
            with self._watch.told("QMP: taking an event"):
                self.deliver(message)

    def deliver(self, message: Mapping[str, Any]) -> None:
        """Journal an event, and hand it to all that listen."""
        if any(message["event"] in names for names in self._left_out):
            return
        evidence = self._write("event", dict(message))
        event = Event(name=str(message["event"]), data=_data(message), evidence=evidence)
        self.events.append(event)
        for waiter in self._waiters:
            waiter.offer(event)
        for name, queue in self._queues:
            if name == event.name:
                queue.put_nowait(event.data)
        for take in tuple(self._followers):
            take(event)
        self._look_for_end(event)

    def _write(self, direction: str, message: Any) -> str:
        return self._journal.qmp.write(direction, message, **self._marks)

    def _look_for_end(self, event: Event) -> None:
        """Notice a guest that reset or powered off by itself (QAPI ShutdownCause), and a host whose disk is full."""
        if event.name == "BLOCK_IO_ERROR" and event.data.get("nospace"):
            words = f"QEMU stopped the guest: no space is left on the host for disk {event.data.get('node-name')}"
            self._watch.fail(BrokenError(f"{words} ({event.evidence})", hint="free disk space where the rundir is"))
        if event.name != "SHUTDOWN" or not event.data.get("guest"):
            return
        reason = str(event.data.get("reason"))
        crash = Crash.RESET if "reset" in reason else Crash.POWER_OFF
        self._watch.crashed(crash, f"QEMU event SHUTDOWN, reason {reason}", evidence=event.evidence)


def _message(command: str, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"execute": command, "arguments": dict(arguments)} if arguments else {"execute": command}


def _data(message: Mapping[str, Any]) -> Mapping[str, Any]:
    data = message.get("data")
    return data if isinstance(data, dict) else {}
