"""A USB device as the guest sees it: proven by the driver of its first interface, and a disk by reading it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.guest.place import place_in_guest
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from testbed.guest.files import Shown
    from testbed.guest.guest import Guest
    from testbed.model.spec import Device

_DRIVER = "{}/*:*/driver"
_DISK = "{}/*:*/host*/target*/*/block/*/dev"
#: the driver whose devices are disks
_STORAGE = "usb-storage"
_READ_KIB = 64


@dataclass(frozen=True, kw_only=True)
class UsbProof:
    """What a proof of life found."""

    device_id: str
    works: bool
    observed: str
    evidence: str

    @property
    def finding(self) -> Finding:
        """Return the proof as a finding."""
        return Finding(
            subject=f"USB device {self.device_id}",
            expected="a bound driver, and a disk that can be read if it is one",
            observed=self.observed,
            evidence=self.evidence,
        )


async def await_usb(guest: Guest, device: Device, *, seconds: float) -> bool:
    """Load the driver as udev does, and wait up to `seconds` guest seconds for what it makes of the device."""
    folder = (await place_in_guest(guest.machine, device)).sysfs
    # the SCSI disk behind a USB one is found some time after it: its driver is loaded unasked
    disk = device.driver == _STORAGE
    more = "modprobe -qa scsi:t-0x00; " if disk else ""
    await guest.act(f"cat {folder}/*:*/modalias 2>/dev/null | xargs -r modprobe -qa; {more}true")
    pattern = _DISK if disk else _DRIVER
    return (await guest.shell.wait_path(pattern.format(folder), exists=True, seconds=seconds)).came


async def prove_usb(guest: Guest, device: Device) -> UsbProof:
    """Look for the driver of the device's interfaces, and read the disk if it is one."""
    folder = (await place_in_guest(guest.machine, device)).sysfs
    patterns = [f"{folder}/{name}" for name in ("product", "speed")]
    shown = await show(guest, *patterns, _DRIVER.format(folder), _DISK.format(folder))
    drivers = sorted({PurePosixPath(target).name for target in shown.links.values()})
    words = [f"{_first(shown, patterns[0])} at {_first(shown, patterns[1])} Mbit/s"]
    words.append(f"bound to {' '.join(drivers)}" if drivers else "no driver")
    works = bool(drivers)
    if device.driver == _STORAGE:
        read, told = await _read_disk(guest, shown.matching(_DISK.format(folder)))
        works = works and read
        words.append(told)
    return UsbProof(device_id=device.id, works=works, observed=", ".join(words), evidence=shown.evidence)


async def _read_disk(guest: Guest, found: list[str]) -> tuple[bool, str]:
    """Read the begin of a disk past the page cache; return whether that worked, and what was seen."""
    if not found:
        return False, "no block device"
    node = PurePosixPath(found[0]).parent.name
    command = f"dd if=/dev/{node} of=/dev/null bs={_READ_KIB}k count=1 iflag=direct"
    result = await guest.shell.run(command)
    works = result.status == 0
    return works, f"{node}: {f'{_READ_KIB} KiB read' if works else result.error}"


def _first(shown: Shown, pattern: str) -> str:
    return next((shown.text(path) for path in shown.matching(pattern)), "?")
