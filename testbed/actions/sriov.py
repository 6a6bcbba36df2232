"""Enable, disable and reset VFs, each with the guest's own words where it refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from testbed.guest.lost_feature import hidden_capability, msix_off
from testbed.guest.pci import address_of
from testbed.guest.shell import PATIENCE
from testbed.guest.sriov import read_pf
from testbed.model.capabilities import SRIOV
from testbed.model.errors import BrokenError, InputError
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.guest.lost_feature import LostFeature
    from testbed.guest.sriov import PfInGuest
    from testbed.model.pci import Bdf

_NOT_PERMITTED = "Operation not permitted"


@dataclass(frozen=True, kw_only=True)
class Written:
    """What came of a write to one of a function's files in sysfs."""

    file: str
    value: str
    error: str  #: the error's text, such as `Numerical result out of range`; empty if it was taken
    messages: str  #: the kernel's meanwhile
    seconds: float  #: guest seconds it took
    evidence: str
    lost: LostFeature | None = None  #: what the driver lacks for it

    @property
    def taken(self) -> bool:
        """Return whether the kernel did it."""
        return not self.error

    @property
    def words(self) -> str:
        """Return the refusal in the kernel's words."""
        return " - ".join(part for part in (self.error, self.messages, self.lost.words if self.lost else "") if part)

    def finding(self, expected: str = "taken") -> Finding:
        """Return it as a finding."""
        observed = f"taken in {self.seconds:.2f} s" if self.taken else self.words
        return Finding(
            subject=f"{self.value} > {self.file}", expected=expected, observed=observed, evidence=self.evidence
        )


async def set_vfs(guest: Guest, pf: Bdf, count: int) -> Written:
    """Ask the PF's driver for this many VFs; 0 disables them.

    Without MSI-X igb gives none: EPERM, and no word (Linux drivers/net/ethernet/intel/igb, igb_enable_sriov()).
    """
    written = await write(guest, pf, "sriov_numvfs", str(count))
    lost = await msix_off(guest, pf) if written.error == _NOT_PERMITTED else None
    return replace(written, lost=lost)


async def set_autoprobe(guest: Guest, pf: Bdf, *, on: bool) -> Written:
    """Say whether drivers may bind to the VFs that come."""
    return await write(guest, pf, "sriov_drivers_autoprobe", "1" if on else "0")


async def reset_function(guest: Guest, bdf: Bdf, method: str = "flr", *, patience: float = PATIENCE) -> Written:
    """Reset one function by a method of its `reset_method`; kernels before 5.15 choose one themselves.

    `patience` are the wall seconds after which a reset that has not ended counts as blocked.
    """
    choose = f"{bdf.sysfs}/reset_method"
    await guest.act(f"[ ! -e {choose} ] || echo {method} > {choose}")
    return await write(guest, bdf, "reset", "1", patience=patience)


async def write(guest: Guest, bdf: Bdf, name: str, value: str, *, patience: float = PATIENCE) -> Written:
    """Write a file of a function's in the guest's sysfs and return what came of it."""
    await guest.shell.catch_up()
    position = guest.shell.log.latest
    command = f"echo {value} > {bdf.sysfs}/{name}"
    guest.machine.journal.step("guest", command)
    result = await guest.shell.run(command, patience=patience)
    await guest.shell.catch_up()
    records = [record for record in guest.shell.log.find(str(bdf), after=position) if record.level <= _NOTICE]
    return Written(
        file=f"{bdf}/{name}",
        value=value,
        error="" if result.status == 0 else result.error.rpartition(": ")[2],
        messages="" if result.status == 0 else "; ".join(record.text.partition(f"{bdf}: ")[2] for record in records),
        seconds=result.ended - result.started,
        evidence=result.evidence,
    )


#: syslog's notice is 5, info is 6: some drivers give the reason as mere information
_NOTICE = 6


async def pf_of(guest: Guest, device: str) -> PfInGuest:
    """Return a device as a PF.

    Raises InputError if it is not one, or has no driver, and TakenAwayError if an option hides that from the guest.
    """
    bdf = await address_of(guest.machine, device)
    pf = await read_pf(guest, bdf)
    if pf is None:
        if lost := await hidden_capability(guest, bdf, SRIOV):
            raise lost.error
        raise InputError(f"{device} at {bdf}: is not a PF: it has no SR-IOV capability")
    return pf


async def enable_at_least(guest: Guest, device: str, count: int) -> PfInGuest:
    """Enable this many VFs of a device unless there are so many; raise InputError if it cannot have them."""
    pf = await pf_of(guest, device)
    if count > pf.total:
        raise InputError(f"{device} has no VF {count - 1}: it can have {pf.total}, counted from 0")
    if pf.enabled >= count:
        return pf
    if pf.enabled:
        await set_vfs(guest, pf.bdf, 0)
    written = await set_vfs(guest, pf.bdf, count)
    if not written.taken:
        raise BrokenError(f"{count} VFs of {device} at {pf.bdf}: {written.words}")
    return await pf_of(guest, device)
