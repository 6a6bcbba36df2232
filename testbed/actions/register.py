"""Register: where in a guest an access to a device goes, and whether there is a way to it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.bars import read_owner
from testbed.model.bar import Space as BarSpace
from testbed.model.errors import InputError
from testbed.model.mmio_record import Direction, MmioRecord
from testbed.model.mmio_record import Space as RecordSpace

if TYPE_CHECKING:
    from testbed.guest.bars import AssignedBar, Owner
    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf

WIDTHS = (1, 2, 4, 8)
MOST_ACCESSES = 1_000_000
_CONFIG_SIZE = 4096


class Route(enum.StrEnum):
    """Who makes an access, and how."""

    USER = "user"  #: a process, on a mapping of the BAR
    KERNEL = "kernel"  #: the kernel, on the mapping of a process; of a BAR of ports through its file in sysfs
    DEVMEM = "devmem"  #: the kernel, by read() and write() of /dev/mem
    PIO = "pio"  #: a process, with in and out
    CONFIG = "config"  #: the kernel, in configuration space


@dataclass(frozen=True, kw_only=True)
class Access:
    """The request."""

    route: Route
    bar: int | None  #: None: configuration space, or a port by its number
    offset: int
    width: int  #: in bytes
    value: int | None = None  #: to be written; None: a read
    count: int = 1

    @property
    def direction(self) -> Direction:
        """Return which way the value goes."""
        return Direction.READ if self.value is None else Direction.WRITE

    def __str__(self) -> str:
        where = "configuration space" if self.bar is None else f"BAR {self.bar}"
        where = (
            f"port {self.offset:#x}" if self.bar is None and self.route is Route.PIO else f"{where} + {self.offset:#x}"
        )
        times = f", {self.count} times" if self.count > 1 else ""
        return f"{self.width}-byte {self.direction} of {where} by {self.route}{times}"


@dataclass(frozen=True, kw_only=True)
class Register:
    """Where an access goes in the guest."""

    access: Access
    space: BarSpace | None  #: None: configuration space
    gpa: int  #: physical address, port, or offset in configuration space
    arguments: str  #: of the program in the guest

    def wants(self, record: MmioRecord) -> bool:
        """Return whether a traced access went to this register."""
        if self.space is None:
            return False
        space = RecordSpace.PIO if self.space is BarSpace.IO else RecordSpace.MMIO
        return record.space is space and self.gpa <= record.gpa < self.gpa + self.access.width


async def locate(guest: Guest, address: Bdf, access: Access) -> Register:
    """Return where an access goes; raise InputError if there is no such register or route to it."""
    check_access(access)
    if access.bar is None:
        return _without_bar(address, access)
    owner = await read_owner(guest, address)
    bar = owner.bar(access.bar) if owner else None
    if owner is None or bar is None:
        has = ", ".join(map(str, owner.bars)) if owner else "the guest has no such function"
        raise InputError(f"{address}: there is no BAR {access.bar}", hint=f"there are: {has or 'none'}")
    _check_range(f"{address} {bar}", bar.size, access)
    _check_route(owner, bar, access)
    return _in_bar(owner, bar, access)


def check_access(access: Access) -> None:
    """Raise InputError if no machine has such an access."""
    if access.width not in WIDTHS:
        raise InputError(f"width {access.width}: accesses are 1, 2, 4 or 8 bytes wide", hint="--width 4")
    if access.offset < 0 or access.offset % access.width:
        raise InputError(f"offset {access.offset:#x}: is not aligned to {access.width} bytes", hint="--width 1")
    if access.width == WIDTHS[-1] and access.route in (Route.PIO, Route.CONFIG):
        raise InputError(f"width {access.width}: {access.route} accesses are 1, 2 or 4 bytes wide", hint="--width 4")
    if access.bar is None and access.route not in (Route.PIO, Route.CONFIG):
        raise InputError(f"route {access.route}: needs a BAR", hint="--bar 0")
    if access.bar is not None and access.route is Route.CONFIG:
        raise InputError("route config: configuration space has no BAR", hint="leave --bar out")
    if not 1 <= access.count <= MOST_ACCESSES:
        raise InputError(f"count {access.count}: wanted 1 to {MOST_ACCESSES}")
    if access.value is not None and not 0 <= access.value < 1 << 8 * access.width:
        raise InputError(f"value {access.value:#x}: does not fit into {access.width} bytes")


def _check_range(what: str, size: int, access: Access) -> None:
    if access.offset + access.width > size:
        last = size - access.width
        raise InputError(
            f"{what}: offset {access.offset:#x} is outside", hint=f"the last one for this width is {last:#x}"
        )


def _check_route(owner: Owner, bar: AssignedBar, access: Access) -> None:
    ports = bar.space is BarSpace.IO
    what = f"{owner.address} {bar}"
    if ports and access.route in (Route.USER, Route.DEVMEM):
        raise InputError(f"{what}: is not memory: MMIO does not reach it", hint="--route pio")
    if not ports and access.route is Route.PIO:
        raise InputError(f"{what}: has no ports: in and out do not reach it", hint="--route user")
    if ports and access.width == WIDTHS[-1]:
        raise InputError(f"width {access.width}: port accesses are 1, 2 or 4 bytes wide", hint="--width 4")


def _without_bar(address: Bdf, access: Access) -> Register:
    if access.route is Route.CONFIG:
        _check_range(f"{address} configuration space", _CONFIG_SIZE, access)
        path = f"{address.sysfs}/config"
        return _register(access, space=None, gpa=access.offset, route="file", path=path, offset=access.offset)
    _check_range("ports", 1 << 16, access)
    port = access.offset
    return _register(access, space=BarSpace.IO, gpa=port, route="port", path="-", offset=port)


def _in_bar(owner: Owner, bar: AssignedBar, access: Access) -> Register:
    gpa = bar.start + access.offset
    file = f"{owner.address.sysfs}/resource{bar.index}"
    route, path, offset = {
        Route.USER: ("user", file, access.offset),
        Route.KERNEL: ("file" if bar.space is BarSpace.IO else "kernel", file, access.offset),
        Route.DEVMEM: ("file", "/dev/mem", gpa),
        Route.PIO: ("port", "-", gpa),
    }[access.route]
    return _register(access, space=bar.space, gpa=gpa, route=route, path=path, offset=offset)


def _register(access: Access, *, space: BarSpace | None, gpa: int, route: str, path: str, offset: int) -> Register:
    words = (route, access.direction, access.width, access.count, f"{access.value or 0:#x}", path, f"{offset:#x}")
    return Register(access=access, space=space, gpa=gpa, arguments=" ".join(map(str, words)))
