"""Which register the mmio scenarios ask about: a harmless one of each device, or what their options name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from testbed.actions.register import Access, Route
from testbed.model.bar import Space
from testbed.model.errors import InputError, UnsupportedError
from testbed.model.mmio_record import Direction
from testbed.model.parameter import Parameter
from testbed.model.stall import parse_stall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.guest.bars import Owner
    from testbed.model.spec import Device, MachineSpec

#: in options: not given
_NONE = -1


class StallOption(Parameter):
    """An option that is the name of a stall's model."""

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        wrong = super().problem(value)
        try:
            parse_stall(value if not wrong else "off")
        except InputError as error:
            return error.message.removeprefix(f"stall {value!r}: ")
        return wrong


OPTIONS = {
    "stall": StallOption(
        type="str",
        default="off",
        doc="which accesses of the probe do not complete: smap-erratum (on -p cpu=EPYC), always, after:N, for:SECONDS; "
        ":read or :write behind it for one direction",
    ),
    "access": Parameter(
        type="str",
        default="auto",
        choices=["auto", "user", "kernel", "pio"],
        doc="who makes the access: a process on the mapped BAR, the kernel, a process with in and out; auto: the way "
        "a user-space driver goes, MMIO where the device has it",
    ),
    "device": Parameter(type="str", default="dev1", doc="id of the device"),
    "bar": Parameter(type="int", default=_NONE, min=_NONE, max=5, doc="a BAR other than the device's usual one"),
    "offset": Parameter(type="int", default=_NONE, min=_NONE, doc="offset of the register in the BAR"),
    "width": Parameter(type="int", default=_NONE, min=_NONE, max=8, doc="bytes of the access"),
    "value": Parameter(type="int", default=_NONE, min=_NONE, doc="what is written"),
}

#: a port that every PC has and nobody minds reading: the POST code
POST_PORT = 0x80


@dataclass(frozen=True, kw_only=True)
class _Known:
    """A register that can be read and written without harm while no driver is bound."""

    bar: int
    offset: int
    width: int
    value: int


#: virtio device status (virtio 1.2, 4.1.4.3), where 0 is a reset; the vendor and device ids of the transitional
#: device share BAR 4
_VIRTIO_MODERN = _Known(bar=4, offset=0x14, width=1, value=0)
#: the same in the legacy interface (virtio 1.2, 4.1.4.10)
_VIRTIO_LEGACY = _Known(bar=0, offset=0x12, width=1, value=0)
#: VLAN Ether Type (Intel 8254x and 82574 manuals, register VET)
_INTEL = _Known(bar=0, offset=0x38, width=4, value=0x8100)
_INTEL_DRIVERS = ("e1000", "e1000e", "igb")
#: Version (NVM Express 2.0, 3.1.3.2), which is read-only
_NVME_VERSION = _Known(bar=0, offset=0x08, width=4, value=0)


def chosen_device(spec: MachineSpec, options: Mapping[str, Any]) -> Device:
    """Return the device asked about; raise UnsupportedError if the machine has none of this id."""
    try:
        return spec.device(options["device"])
    except KeyError:
        hint = f"-s device=ID; there are: {', '.join(device.id for device in spec.devices) or 'none'}"
        raise UnsupportedError(f"the machine has no device {options['device']}", hint=hint) from None


def chosen_access(device: Device, owner: Owner, direction: Direction, options: Mapping[str, Any]) -> Access:
    """Return the access asked about; raise UnsupportedError where nothing is known of the device and nothing given."""
    known = _known(device, owner, options["access"])
    names = ("bar", "offset", "width", "value")
    own = {name: getattr(known, name) for name in names} if known else {"width": 4}
    register = {**own, **{name: options[name] for name in names if options[name] != _NONE}}
    lacking = [name for name in names if name not in register and (name != "value" or direction is Direction.WRITE)]
    if lacking:
        raise UnsupportedError(
            f"no harmless register of a {device.driver} is known here",
            hint="name one: " + " ".join(f"-s {name}=…" for name in lacking),
        )
    return Access(
        route=_route(options["access"], owner, register["bar"]),
        bar=register["bar"],
        offset=register["offset"],
        width=register["width"],
        value=register["value"] if direction is Direction.WRITE else None,
    )


def known_read(device: Device, owner: Owner) -> Access | None:
    """Return a read by a process of a register that nobody minds, driver or not; None where none is known."""
    known = _NVME_VERSION if device.driver == "nvme" else _known(device, owner, "user")
    bar = owner.bar(known.bar) if known else None
    if known is None or bar is None or bar.space is not Space.MEMORY:
        return None
    return Access(route=Route.USER, bar=known.bar, offset=known.offset, width=known.width)


def _known(device: Device, owner: Owner, access: str) -> _Known | None:
    if device.driver in _INTEL_DRIVERS:
        return _INTEL
    if not device.driver.startswith("virtio-"):
        return None
    legacy = owner.bar(_VIRTIO_MODERN.bar) is None or access == "pio"
    return _VIRTIO_LEGACY if legacy else _VIRTIO_MODERN


def _route(access: str, owner: Owner, bar: int) -> Route:
    if access != "auto":
        return Route(access)
    found = owner.bar(bar)
    return Route.PIO if found and found.space is Space.IO else Route.USER


def port_access(owner: Owner) -> Access:
    """Return a port read that shows that ports work: of the device itself where it has some."""
    ports = owner.bars_in(Space.IO)
    if ports:
        return Access(route=Route.PIO, bar=ports[0].index, offset=0, width=4)
    return Access(route=Route.PIO, bar=None, offset=POST_PORT, width=1)
