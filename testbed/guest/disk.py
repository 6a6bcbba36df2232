"""A disk as the guest sees it: found by its serial number, proven by writing and reading back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.guest.shell import PATIENCE
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from testbed.guest.guest import Guest

#: status of the verb prove-disk where there is none of that serial number
_NO_DISK = 3
#: where a block device's folder has the serial number: virtio's, NVMe's (padded), and a SCSI disk's vital product data
_SERIALS = ("serial", "device/serial", "device/vpd_pg80")
#: bytes of a vital product data page before the serial number
_VPD_HEADER = 4


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
    shown = await show(guest, *(f"/sys/block/*/{each}" for each in (*_SERIALS, "hidden")))
    names = (path.split("/")[3] for path in shown.files if _serial(path, shown.files[path]) == serial)
    return next((name for name in names if shown.text(f"/sys/block/{name}/hidden") != "1"), "")


async def await_disk(guest: Guest, serial: str, *, seconds: float) -> bool:
    """Wait up to `seconds` guest seconds for the block device; a driver needs a moment after the PCI function."""
    files = " ".join(f"/sys/block/*/{each}" for each in _SERIALS)
    look = f"cat {files} 2>/dev/null | grep -o {serial}"
    guest.machine.journal.step("guest", f"sleep 1; {look} || echo no disk {serial}")
    patience = PATIENCE + 2 * seconds
    return (await guest.shell.run_verb("await-disk", serial, f"{math.ceil(seconds)}", patience=patience)).status == 0


async def prove_disk(guest: Guest, serial: str, *, patience: float = PATIENCE) -> DiskProof:
    """Write to a disk past the page cache, read back and compare; `patience` is in wall seconds."""
    result = await guest.shell.run_verb("prove-disk", serial, patience=patience)
    if result.status == _NO_DISK:
        return DiskProof(serial=serial, node="", works=False, observed="no such block device", evidence=result.evidence)
    node, works = result.text, result.status == 0
    observed = f"{node}: 64 KiB written and read back" if works else f"{node}: {result.error}"
    return DiskProof(serial=serial, node=node, works=works, observed=observed, evidence=result.evidence)


def _serial(path: str, content: bytes) -> str:
    text = content[_VPD_HEADER:] if path.endswith("vpd_pg80") else content
    return text.decode("ascii", "replace").strip()
