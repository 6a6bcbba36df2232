"""A disk as the guest sees it: found by its serial number, proven by writing and reading back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from testbed.guest.guest import Guest

#: what disks on PCI need
MODULES = ("virtio_pci", "virtio_blk")


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
    found = await guest.shell.run(f"grep -lx {serial} /sys/block/*/serial")
    return found.text.split("/")[3] if found.status == 0 else ""


async def await_disk(guest: Guest, serial: str, *, seconds: float) -> None:
    """Wait up to `seconds` guest seconds for the block device; a driver needs a moment after the PCI function."""
    guest.machine.journal.step("guest", f"sleep 1; grep -x {serial} /sys/block/*/serial || echo no disk {serial}")
    await guest.shell.wait_until_succeeds(f"grep -qx {serial} /sys/block/*/serial", seconds=seconds)


async def prove_disk(guest: Guest, serial: str) -> DiskProof:
    """Write to a disk, drop the caches, read back and compare."""
    node = await find_disk(guest, serial)
    if not node:
        listing = await guest.shell.run("ls /sys/block")
        return DiskProof(
            serial=serial, node="", works=False, observed="no such block device", evidence=listing.evidence
        )
    script = (
        f"cd /tmp && dd if=/dev/urandom of=written bs=64k count=1 && dd if=written of=/dev/{node} bs=64k conv=fsync && "
        f"echo 3 > /proc/sys/vm/drop_caches && dd if=/dev/{node} of=read bs=64k count=1 && cmp written read"
    )
    result = await guest.shell.run(script)
    works = result.status == 0
    observed = f"{node}: 64 KiB written and read back" if works else f"{node}: {result.error or 'data differ'}"
    return DiskProof(serial=serial, node=node, works=works, observed=observed, evidence=result.evidence)
