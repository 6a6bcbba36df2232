"""Scene: the machine on which steps are taken, the answer to the last line, and from where on the logs count."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.guest.pci import addresses
from testbed.model.errors import BedError
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from testbed.guest.guest import Guest


class StoppedError(BedError):
    """Report a machine that is stopped, where its guest would have to do something."""

    def __init__(self, status: str, *, evidence: str) -> None:
        super().__init__(f"the machine is stopped ({status}): its guest does not run, and guest time does not pass")
        self.evidence = evidence


@dataclass(frozen=True, kw_only=True)
class Said:
    """The answer to a line."""

    text: str
    evidence: str


@dataclass(kw_only=True)
class Scene:
    """One guest, while steps are taken with it."""

    guest: Guest
    last: Said = field(default_factory=lambda: Said(text="", evidence="qmp.jsonl"))
    #: the line of the kernel's log, and the event, after which they count
    first_line: int = 0
    first_event: int = 0
    #: log lines and events, by where they stand, that answered a wait: another one waits for another
    taken: set[str] = field(default_factory=set)
    #: whether what is found now answers a wait
    consuming: bool = False
    _places: dict[str, Bdf] = field(default_factory=dict)

    @property
    def last_reply(self) -> str:
        """Return where QMP's latest answer is recorded."""
        return self.guest.machine.qmp.last_reply

    def begin_anew(self) -> None:
        """Let only what the kernel and QEMU say from now on count."""
        self.first_line = self.guest.shell.log.lines
        self.first_event = len(self.guest.machine.qmp.events)

    async def note_places(self) -> None:
        """Note each device's address: one that QEMU has deleted may be looked for in the guest."""
        self._places |= await addresses(self.guest.machine)

    async def place(self, device: str) -> Bdf | None:
        """Return the address of a device by its id, the last one it had if it is gone; an address stands for itself."""
        with contextlib.suppress(ValueError):
            return Bdf.parse(device)
        await self.note_places()
        return self._places.get(device)

    async def hear_kernel(self) -> None:
        """Wait until all that the kernel has said has come, if its guest lives."""
        if await self.is_running():
            await self.guest.shell.catch_up()

    async def check_running(self) -> None:
        """Raise StoppedError if the machine is stopped: the guest would never answer."""
        if (status := await self._status()) != "running":
            # asked once more, for the journal to have it
            await self.guest.machine.qmp.execute("query-status")
            raise StoppedError(status, evidence=self.last_reply)

    async def is_running(self) -> bool:
        """Return whether the machine runs."""
        return await self._status() == "running"

    async def _status(self) -> str:
        answer = await self.guest.machine.qmp.execute_unlogged("query-status", {})
        return str(answer["status"])
