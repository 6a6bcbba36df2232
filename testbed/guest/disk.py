"""A disk as the guest sees it: found by its serial number, proven by writing and reading back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from testbed.guest.guest import Guest

#: what disks on PCI need
MODULES = ("virtio_pci", "virtio_blk")
#: status of the verb prove-disk where there is none of that serial number
_NO_DISK = 3
_SERIALS = "/sys/block/*/serial"


@dataclass(frozen=True, kw_only=True)
class DiskProof:
    """What a proof of life found."""

    serial: str
    node: str  #: block device name, `vda`; empty if there is none
    works: bool
    observed: str
    evidence: str

    @property
    def finding(self) -> Finding:
        """Return the proof as a finding."""
        return Finding(
            subject=f"disk {self.serial}",
            expected="64 KiB written and read back",
            observed=self.observed,
            evidence=self.evidence,
        )


async def find_disk(guest: Guest, serial: str) -> str:
    """Return the block device name with this serial number, or an empty string."""
    shown = await show(guest, _SERIALS)
    return next((path.split("/")[3] for path in shown.files if shown.text(path) == serial), "")


async def await_disk(guest: Guest, serial: str, *, seconds: float) -> None:
    """Wait up to `seconds` guest seconds for the block device; a driver needs a moment after the PCI function."""
    guest.machine.journal.step("guest", f"sleep 1; grep -x {serial} {_SERIALS} || echo no disk {serial}")
    await guest.shell.wait_until_succeeds(f"grep -qx {serial} {_SERIALS}", seconds=seconds)


async def prove_disk(guest: Guest, serial: str) -> DiskProof:
    """Write to a disk past the page cache, read back and compare."""
    result = await guest.shell.run_verb("prove-disk", serial)
    if result.status == _NO_DISK:
        return DiskProof(serial=serial, node="", works=False, observed="no such block device", evidence=result.evidence)
    node, works = result.text, result.status == 0
    observed = f"{node}: 64 KiB written and read back" if works else f"{node}: {result.error}"
    return DiskProof(serial=serial, node=node, works=works, observed=observed, evidence=result.evidence)
