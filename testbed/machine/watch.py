"""What ends every wait at once: QEMU's death, a lost channel, a crashed guest.

Everything that waits for a machine waits inside `Watch.during`; everything that notices an end calls `Watch.fail`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, NoReturn, TypeVar

from testbed.model.errors import BrokenError, GuestCrashedError
from testbed.model.kernel_log import Crash, find_crash

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from testbed.model.errors import BedError

T = TypeVar("T")

_END_SECONDS = 5.0
#: characters of a line that are searched, its last: a kernel's message is shorter, whatever was printed before it
_LINE = 4096
#: crashes of a kind that are noted; a guest that prints ever new ones fills neither the memory nor the time
_CRASHES = 100


class Watch:
    """The first fatal error of one machine, delivered to whoever waits."""

    def __init__(self) -> None:
        self._fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tolerated: set[Crash] = set()
        self._crashes: list[GuestCrashedError] = []
        self._noted: Counter[Crash] = Counter()
        self._followers: list[Callable[[GuestCrashedError], None]] = []

    @property
    def crashes(self) -> tuple[GuestCrashedError, ...]:
        """Return the crashes seen, tolerated ones too: the first of each kind."""
        return tuple(self._crashes)

    def tolerate(self, *crashes: Crash) -> None:
        """Let the guest crash in these ways: the scenario expects them."""
        self._tolerated.update(crashes)

    def forget(self) -> None:
        """Forget the crashes seen: another guest boots now, and may crash in the same words."""
        self._crashes.clear()
        self._noted.clear()

    @contextlib.contextmanager
    def follow(self, take: Callable[[GuestCrashedError], None]) -> Iterator[None]:
        """Report every crash from now on, tolerated or not, to `take`."""
        self._followers.append(take)
        try:
            yield
        finally:
            self._followers.remove(take)

    def fail(self, error: BedError) -> None:
        """End every wait, now and later, with this error; only the first counts."""
        if not self._fatal.done():
            self._fatal.set_exception(error)
            self._fatal.exception()  # nobody may be waiting: mark it as seen

    @contextlib.contextmanager
    def told(self, doing: str) -> Iterator[None]:
        """Let whoever waits know of an error in a task of the bed's own, to which nobody listens."""
        try:
            yield
        except Exception as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
            self.fail(BrokenError(f"{doing}: {why}"))
            raise

    def crashed(self, crash: Crash, words: str, *, evidence: str) -> None:
        """Note a crash of the guest, and end every wait unless it is tolerated."""
        if self._noted[crash] == _CRASHES:
            return
        if any((seen.crash, seen.words) == (crash, words) for seen in self._crashes):
            return  # the console and /dev/kmsg tell the same
        error = GuestCrashedError(crash, words, evidence=evidence)
        self._crashes.append(error)
        self._noted[crash] += 1
        for take in tuple(self._followers):
            take(error)
        if crash not in self._tolerated:
            self.fail(error)

    def read_line(self, text: str, *, evidence: str) -> None:
        """Look for a crash in one line of the kernel's."""
        if found := find_crash(text[-_LINE:]):
            self.crashed(*found, evidence=evidence)

    async def lost(self, error: BedError) -> NoReturn:
        """Raise how QEMU ended, which its process tells a moment after its sockets closed; else raise `error`."""
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self.during(asyncio.Event().wait())
        except TimeoutError:
            self.fail(error)
        raise error

    async def during(self, awaitable: Awaitable[T]) -> T:
        """Wait for `awaitable`, or raise the fatal error if that comes first."""
        task = asyncio.ensure_future(awaitable)
        try:
            await asyncio.wait([task, self._fatal], return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]
            if task.done():
                return task.result()
            self._fatal.result()  # raises
            raise AssertionError("a fatal error is always an exception")
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
