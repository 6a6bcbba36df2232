"""Survey: what every BAR of every function reads as, by a process and by the kernel, and what an access takes.

Reads only; but a read may have an effect too (virtio's ISR status is cleared by it), so it is for machines that nobody
else uses. Functions with a driver are read where the kernel lets others at their BARs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from testbed.actions.mmio import complete
from testbed.actions.register import WIDTHS, Access, Route
from testbed.guest.bars import read_owners
from testbed.model.bar import Space
from testbed.model.errors import BrokenError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from testbed.actions.probe_result import Timing
    from testbed.guest.bars import AssignedBar, Owner
    from testbed.guest.guest import Guest

#: by a process, and by the kernel
ROUTES = {Space.MEMORY: (Route.USER, Route.KERNEL), Space.IO: (Route.PIO, Route.KERNEL)}


@dataclass(frozen=True, kw_only=True)
class Read:
    """What came of a read."""

    timing: Timing | None  #: None if it was refused or faulted
    fault: str  #: why; empty if it completed
    evidence: str = "shell.jsonl"

    @property
    def value(self) -> int | None:
        """Return what the last read gave."""
        return self.timing.last if self.timing else None

    @property
    def words(self) -> str:
        """Return what it gave, in words that are the same each time; a register that counts has no value."""
        if self.timing is None:
            return self.fault
        return f"{self.timing.last:#x}" if self.timing.first == self.timing.last else "changes"


@dataclass(frozen=True, kw_only=True)
class SurveyRow:
    """One register, read in one width."""

    owner: Owner
    bar: AssignedBar
    offset: int
    width: int
    user: Read
    kernel: Read


async def survey(
    guest: Guest, *, offsets: Sequence[int] = (0,), count: int = 100, progress: Callable[[str], None] = lambda _: None
) -> list[SurveyRow]:
    """Read every BAR at these offsets, in each width that a BAR of its kind allows, `count` times."""
    rows = []
    for owner in await read_owners(guest):
        if owner.bars and not owner.driver:
            await guest.act(f"echo 1 > {owner.address.sysfs}/enable")
        for bar in owner.bars:
            progress(f"reading {owner.address} {bar}")
            rows += [
                await _row(guest, owner, bar, offset, width, count)
                for offset in offsets
                for width in WIDTHS
                if _fits(bar, offset, width)
            ]
    return rows


def _fits(bar: AssignedBar, offset: int, width: int) -> bool:
    widest = 4 if bar.space is Space.IO else 8
    return width <= widest and offset % width == 0 and offset + width <= bar.size


async def _row(guest: Guest, owner: Owner, bar: AssignedBar, offset: int, width: int, count: int) -> SurveyRow:
    user, kernel = ROUTES[bar.space]
    access = Access(route=user, bar=bar.index, offset=offset, width=width, count=count)
    return SurveyRow(
        owner=owner,
        bar=bar,
        offset=offset,
        width=width,
        user=await _read(guest, owner, access),
        kernel=await _read(guest, owner, replace(access, route=kernel)),
    )


async def _read(guest: Guest, owner: Owner, access: Access) -> Read:
    try:
        timing, evidence = await complete(guest, owner.address, access)
    except (InputError, BrokenError) as error:
        return Read(timing=None, fault=error.message.removeprefix("probe: ").removeprefix(f"{access}: "))
    return Read(timing=timing, fault="", evidence=evidence)
