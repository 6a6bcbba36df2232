"""Which system, kernel and boot entry of a disk are meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.image.disk.records import ENCRYPTED
from testbed.image.disk.survey import systems_of
from testbed.model.catalog import unknown
from testbed.model.errors import InputError
from testbed.model.printable import harmless

if TYPE_CHECKING:
    from testbed.image.disk.boot_entry import BootEntry
    from testbed.image.disk.disk_name import DiskName
    from testbed.image.disk.records import DiskRecords, Volume
    from testbed.image.disk.survey import DiskKernelFile, System


def closed_volumes(survey: DiskRecords) -> str:
    """Return the volumes that could not be looked into, and why; empty if there are none."""
    closed = {volume.name: _why_closed(volume) for volume in survey.volumes}
    return harmless("; ".join(f"{name} {why}" for name, why in closed.items() if why))


def _why_closed(volume: Volume) -> str:
    if volume.type in ENCRYPTED:
        return "is encrypted"
    if volume.type == "logical":
        return f"is a logical volume of type {volume.label}, which the test bed does not open, or part of it is missing"
    if volume.type == "array":
        return "is an array that cannot be started"
    return f"cannot be read: {volume.error}" if volume.error else ""


def chosen_system(name: DiskName, survey: DiskRecords) -> System:
    """Return the system that is meant; raise InputError if there is none, or several and none is named."""
    systems = systems_of(survey)
    if not systems:
        closed = closed_volumes(survey)
        raise InputError(
            f"disk image {name.file}: no kernel, boot entries or system could be found on it"
            f"{f' ({closed})' if closed else ''}",
            hint=f"see what it holds: testbed image show {name}",
        )
    if name.system is None and len(systems) > 1:
        there = "; ".join(f"system={number} is {_called(each)}" for number, each in enumerate(systems, 1))
        raise InputError(f"disk image {name.file}: holds {len(systems)} systems", hint=f"name one: {there}")
    number = name.system or 1
    if number > len(systems):
        raise InputError(f"disk image {name.file}: has no system {number}, it has {len(systems)}")
    return systems[number - 1]


def _called(system: System) -> str:
    return harmless(f"{system.name or 'an unnamed one'} on {system.volume}")


def chosen_kernel(name: DiskName, system: System) -> DiskKernelFile:
    """Return the kernel that is meant: the one named, or the one that boots by default; raise InputError if none."""
    releases = [kernel.release for kernel in system.kernels if kernel.release]
    if name.kernel:
        if name.kernel not in releases:
            raise unknown(f"disk image {name.file}: kernel", name.kernel, map(harmless, releases))
        return next(kernel for kernel in system.kernels if kernel.release == name.kernel)
    kernel = system.default_kernel()
    if kernel is None:
        there = "; ".join(f"{each.volume}:/{each.path}: {each.error}" for each in system.kernels if each.error)
        raise InputError(
            f"disk image {name.file}: has no usable 64-bit x86 kernel{f' ({harmless(there)})' if there else ''}",
            hint=f"see what it holds: testbed image show {name}",
        )
    return kernel


def chosen_entry(name: DiskName, system: System, number: int | None) -> BootEntry:
    """Return a boot entry by its number from 1, or the default one; raise InputError if there is none."""
    if not system.entries:
        raise InputError(
            f"disk image {name.file}: has no boot entries", hint=f"see what it holds: testbed image show {name}"
        )
    if number is None:
        return next((entry for entry in system.entries if entry.default), system.entries[0])
    if not 1 <= number <= len(system.entries):
        raise InputError(
            f"disk image {name.file}: has no boot entry {number}, it has {len(system.entries)}",
            hint=f"list them: testbed image show {name}",
        )
    return system.entries[number - 1]
