"""Machine types: which upstream one a vendor's stands for, and the nearest that a QEMU has.

Sources: QEMU hw/i386/pc_q35.c and pc_piix.c (`pc-q35-7.2`, `pc-i440fx-7.2`, before 1.4 `pc-1.3`); Red Hat's releases of
qemu-kvm, whose types are named after the RHEL that brought them; Ubuntu's, named after the release with that QEMU
(`-hpb` has host-phys-bits on); Proxmox' `+pve0` is a number of its own behind an upstream type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TYPE = re.compile(r"pc-(?:(?P<chipset>q35|i440fx)-)?(?P<version>[0-9]{1,2}(?:\.[0-9]{1,2}){1,2})(?:\+pve[0-9]{1,3})?")
_RHEL = re.compile(r"pc-(?P<chipset>q35|i440fx)-rhel(?P<release>[0-9]{1,2}\.[0-9]{1,2})(?:\.[0-9]{1,2})?")
_UBUNTU = re.compile(r"(?:pc|ubuntu)-(?:(?P<chipset>q35|i440fx)-)?(?P<release>[a-z]{4,12})(?:-[a-z0-9-]{1,20})?")
_RHEL_QEMU = {
    **{"7.0": "1.5", "7.1": "2.1", "7.2": "2.3", "7.3": "2.6", "7.4": "2.9", "7.5": "2.10", "7.6": "2.12"},
    **{"8.0": "3.1", "8.1": "4.1", "8.2": "4.2", "8.3": "5.1", "8.4": "5.2", "8.5": "6.0", "8.6": "6.2"},
    **{"9.0": "6.2", "9.2": "7.2", "9.4": "8.2", "9.6": "9.1", "9.8": "10.1", "10.0": "9.1", "10.2": "10.1"},
}
_UBUNTU_QEMU = {
    **{"trusty": "2.0", "utopic": "2.1", "vivid": "2.2", "wily": "2.3", "xenial": "2.5", "yakkety": "2.6"},
    **{"zesty": "2.8", "artful": "2.10", "bionic": "2.11", "cosmic": "2.12", "disco": "3.1", "eoan": "4.0"},
    **{"focal": "4.2", "groovy": "5.0", "hirsute": "5.2", "impish": "6.0", "jammy": "6.2", "kinetic": "7.0"},
    **{"lunar": "7.2", "mantic": "8.0", "noble": "8.2", "oracular": "9.0", "plucky": "9.2", "questing": "10.1"},
}


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """An upstream machine type."""

    chipset: str  #: q35 or i440fx
    version: tuple[int, ...]  #: of QEMU, such as (7, 2); empty for the newest
    old_style: bool = False  #: `pc-1.3`, without the chipset

    def __str__(self) -> str:
        if not self.version:
            return "q35" if self.chipset == "q35" else "pc"
        number = ".".join(map(str, self.version))
        return f"pc-{number}" if self.old_style else f"pc-{self.chipset}-{number}"


def chipset_of(name: str) -> str | None:
    """Return which of the two chipsets a machine type of any vendor has; None if neither."""
    if "q35" in name:
        return "q35"
    is_i440fx = name in ("pc", "ubuntu") or name.startswith(("pc-", "ubuntu-"))
    return "i440fx" if is_i440fx else None


def upstream(name: str, chipset: str) -> MachineType:
    """Return the upstream type that a name stands for; the newest of the chipset where nobody knows the name."""
    if match := _TYPE.fullmatch(name):
        return MachineType(chipset=chipset, version=_numbers(match["version"]), old_style=match["chipset"] is None)
    qemu = None
    if match := _RHEL.fullmatch(name):
        qemu = _nearest_release(match["release"])
    elif match := _UBUNTU.fullmatch(name):
        qemu = _UBUNTU_QEMU.get(match["release"])
    return MachineType(chipset=chipset, version=_numbers(qemu) if qemu else ())


def nearest(wanted: MachineType, names: tuple[str, ...]) -> MachineType:
    """Return the type of the same chipset, of those a QEMU has, whose version is nearest; the newest if it has none."""
    known = [each for name in names if _TYPE.fullmatch(name) and (each := upstream(name, chipset_of(name) or ""))]
    same = [each for each in known if each.chipset == wanted.chipset]
    newest = MachineType(chipset=wanted.chipset, version=())
    return min(same, key=lambda each: _distance(each.version, wanted.version), default=newest)


def _nearest_release(release: str) -> str:
    wanted = _numbers(release)
    return _RHEL_QEMU[min(_RHEL_QEMU, key=lambda each: _distance(_numbers(each), wanted))]


def _distance(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return how far two versions are apart; a major number weighs more than any minor one."""
    return abs(_rank(one) - _rank(other))


def _rank(version: tuple[int, ...]) -> int:
    major, minor, micro = (*version, 0, 0, 0)[:3]
    return (major * 100 + minor) * 100 + micro


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split("."))
