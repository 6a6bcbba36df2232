"""Bench: the machine that verbs work on, its guest for as long as that answers, and what the verbs share."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, TypeVar

from testbed.guest.drivers import load_drivers
from testbed.machine.device_tree import device_ids
from testbed.machine.qmp_schema import QmpSchema
from testbed.model.aer_name import NAMES
from testbed.model.device_kind import KINDS
from testbed.model.errors import BrokenError
from testbed.model.kernel_log import FINAL
from testbed.verbs.verb import Argument

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from testbed.guest.guest import Guest
    from testbed.machine.launch import Machine
    from testbed.model.errors import GuestCrashedError

T = TypeVar("T")

_LAST_WORDS = "QMP answers, and log shows its last words"


class Bench:
    """One machine."""

    def __init__(self, machine: Machine, guest: Guest | None) -> None:
        self.machine = machine
        #: the guest that came up, even if it has crashed since; None if none ever did
        self.guest = guest
        #: what QMP commands take; knows none before `start`
        self.schema = QmpSchema(())
        self._numbers = itertools.count(1)

    async def start(self, *, drivers: bool) -> None:
        """Ask QEMU for its commands, and let the guest drive its devices unless it is not to."""
        self.schema = await QmpSchema.of(self.machine.qmp)
        if drivers and self.guest:
            await load_drivers(self.guest)

    def new_id(self) -> str:
        """Return an id for a device that was given none."""
        return f"hot{next(self._numbers)}"

    # -- the guest --

    @property
    def answering(self) -> Guest | None:
        """Return the guest, if it can still answer."""
        over = any(crash.crash in FINAL for crash in self.machine.watch.crashes)
        return None if over else self.guest

    def living_guest(self, verb: str) -> Guest:
        """Return the guest; raise BrokenError if it cannot answer any more."""
        guest = self.answering
        if guest is None:
            raise BrokenError(f"{verb}: no guest answers", hint=_LAST_WORDS)
        return guest

    async def while_it_lives(self, answer: Awaitable[T]) -> T:
        """Wait for something of the guest's; raise GuestCrashedError if that ends first, tolerated or not."""
        ended: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def hear(crash: GuestCrashedError) -> None:
            if crash.crash in FINAL and not ended.done():
                ended.set_exception(crash)

        waiting = asyncio.ensure_future(answer)
        try:
            with self.machine.watch.follow(hear):
                await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
            return (waiting if waiting.done() else ended).result()
        finally:
            for each in (waiting, ended):
                each.cancel()
            await asyncio.gather(waiting, ended, return_exceptions=True)

    # -- words --

    async def words(self) -> Mapping[Argument, Sequence[str]]:
        """Return the words that can stand for each argument now: devices come and go."""
        return {
            Argument.DEVICE: await device_ids(self.machine),
            Argument.DRIVER: self._driver_names(),
            Argument.ON: ("on",),
            Argument.BUS: self.machine.spec.buses,
            Argument.ERROR: sorted(NAMES),
            Argument.COMMAND: self.schema.commands,
        }

    def _driver_names(self) -> list[str]:
        drivers = self.machine.qemu.drivers
        kinds = (kind.name for kind in KINDS if kind.driver in drivers)
        return sorted({*drivers, *(driver.removesuffix("-pci") for driver in drivers), *kinds})
