"""The root file system of a disk's system, as the guest that switches to it is told (guest-images/whole.c)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.errors import InputError
from testbed.model.printable import harmless

if TYPE_CHECKING:
    from testbed.image.disk.disk_name import DiskName
    from testbed.image.disk.records import DiskRecords
    from testbed.image.disk.survey import System

#: a partition, or the disk itself, with a subvolume or without
_PLAIN = re.compile(r"vda(?P<number>[0-9]*)(:(?P<subvolume>[^\s:]+))?")
#: an array, or a logical volume
_MADE = re.compile(r"(?P<made>md[0-9]+|[A-Za-z0-9._+-]+/[A-Za-z0-9._+-]+)(:(?P<subvolume>[^\s:]+))?")
#: file systems whose driver is in the initramfs
_MOUNTED = ("ext4", "xfs", "btrfs")


@dataclass(frozen=True, kw_only=True)
class RootVolume:
    """Where a root file system is."""

    device: str  #: the number of a partition, 0 if the disk has none; the name of an array or of a logical volume
    type: str
    subvolume: str

    def line(self) -> str:
        """Return it as the guest reads it."""
        return f"{self.device} {self.type} {self.subvolume or '-'}\n"


def root_volume(name: DiskName, system: System, survey: DiskRecords) -> RootVolume:
    """Return the root file system of a system; raise InputError where the test bed cannot switch to it."""
    if not system.volume:
        raise InputError(
            f"--whole: disk image {name.file}: none of its file systems has an os-release, so its root is unknown",
            hint=f"see what it holds: testbed image show {name}",
        )
    kind = survey.volume(system.volume).type
    match = _PLAIN.fullmatch(system.volume) or _MADE.fullmatch(system.volume)
    if match is None:
        raise InputError(
            f"--whole: disk image {name.file}: its root is {harmless(system.volume)}, a name that cannot be passed on"
        )
    if kind not in _MOUNTED:
        raise InputError(f"--whole: disk image {name.file}: its root is {kind}, wanted {', '.join(_MOUNTED)}")
    found = match.groupdict()
    device = found.get("made") or found.get("number") or "0"
    return RootVolume(device=device, type=kind, subvolume=found["subvolume"] or "")
