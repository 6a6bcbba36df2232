"""Inject a PCIe error (AER) and prove what became of it.

An injector's "OK" is no proof: the verdict rests on the guest's log and on the registers on the error message's way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.injection import Route, Target
from testbed.actions.injection_order import InjectionOrder
from testbed.guest.error_path import read_error_path
from testbed.guest.lost_feature import hidden_capability
from testbed.guest.pci import addresses
from testbed.guest.recovery import WAITS, show_steps
from testbed.machine.device_tree import live_devices
from testbed.model.aer import SEVERITY_AT, ErrorSeverity
from testbed.model.aer_name import find_record
from testbed.model.capabilities import AER
from testbed.model.catalog import unknown
from testbed.model.errors import BrokenError, InputError, UnsupportedError
from testbed.model.sriov import read_sriov

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from testbed.actions.injection import Header, Injection
    from testbed.guest.error_path import ErrorPath
    from testbed.guest.guest import Guest
    from testbed.guest.recovery import Waits
    from testbed.model.aer import ErrorRecord

#: bytes of a configuration space with extended capabilities
_EXTENDED = 4096


async def inject(
    guest: Guest,
    device: str,
    error: str,
    *,
    route: Route = Route.AUTO,
    vf: int | None = None,
    severity: ErrorSeverity | None = None,
    header: Header | None = None,
    prefix: Header | None = None,
    waits: Waits = WAITS,
    then: Callable[[], Awaitable[None]] | None = None,
) -> Injection:
    """Give a device, or a VF of it, an error; return what became of it, with the recovery if the guest began one.

    `error` is QEMU's name, the kernel's, or a status bit; `RCVR+BAD_TLP` are several in one record. A `severity` other
    than the device's own is written into its severity register, and stays there. A TLP prefix goes by QEMU only.
    `then` is done once QEMU's device has the error, with the machine stopped.
    Raises InputError for what does not exist, and for a device without AER.
    """
    record = find_record(error, severity)
    _check_route(route, vf=vf, prefix=prefix)
    target = await find_target(guest, device, vf)
    before = await ready_path(guest, target, record, severity)
    await show_steps(guest)
    await guest.shell.catch_up()
    order = InjectionOrder(
        guest=guest,
        target=target,
        record=record,
        header=header,
        prefix=prefix,
        before=before,
        position=guest.shell.log.latest,
        waits=waits,
        then=then,
    )
    return await order.carry_out(route)


async def ready_path(guest: Guest, target: Target, record: ErrorRecord, severity: ErrorSeverity | None) -> ErrorPath:
    """Return the registers on a target's way, the severity set if need be; raise InputError if it has no AER."""
    before = await _readable(guest, target)
    if severity is not None and any(before.device.severity_of(each) is not severity for each in record.errors):
        return await _set_severity(guest, target, record, severity)
    return before


async def find_target(guest: Guest, device: str, vf: int | None = None) -> Target:
    """Return the function that an id, and a VF number, name; raise InputError if there is none."""
    drivers = {each.id: each.driver for each in await live_devices(guest.machine)}
    places = await addresses(guest.machine)
    if device not in drivers:
        raise unknown("device", device, sorted(drivers.keys() & places.keys()))
    if device not in places:
        hint = "it is not a PCI device, or a bridge above it lost its bus numbers in a reset"
        raise InputError(f"inject: {device} ({drivers[device]}) has no PCI address", hint=hint)
    target = Target(device=device, driver=drivers[device], bdf=places[device])
    return target if vf is None else await _vf_target(guest, target, vf)


async def _vf_target(guest: Guest, pf: Target, vf: int) -> Target:
    path = await read_error_path(guest, pf.bdf)
    sriov = read_sriov(path.device.space) if path else None
    if sriov is None:
        raise InputError(f"inject: {pf.device} ({pf.driver}) has no VFs: it has no SR-IOV capability")
    enabled = sriov.num_vfs if sriov.vf_enable else 0
    if not 0 <= vf < enabled:
        have = f"{enabled} are enabled, counted from 0" if enabled else "none is enabled"
        most = f"testbed inject enables them itself, up to {sriov.total_vfs}"
        raise InputError(f"inject: {pf.device} has no VF {vf}: {have}", hint=most)
    return Target(device=pf.device, driver=pf.driver, bdf=sriov.vf_bdf(pf.bdf, vf), vf=vf)


def _check_route(route: Route, *, vf: int | None, prefix: Header | None) -> None:
    if route is Route.QEMU and vf is not None:
        raise InputError("inject: QEMU's injector takes ids, and a VF has none", hint="use --route guest, or auto")
    if prefix is not None and (route is Route.GUEST or vf is not None):
        raise InputError("inject: the guest's injector takes no TLP prefix", hint="use --route qemu, without --vf")


async def _readable(guest: Guest, target: Target) -> ErrorPath:
    """Return the registers on the way; raise InputError if the function has no AER."""
    path = await read_error_path(guest, target.bdf)
    if path and len(path.device.space) < _EXTENDED:
        if lost := await hidden_capability(guest, target.bdf, AER):
            raise lost.error
        raise UnsupportedError(
            f"inject: the guest reads {len(path.device.space)} bytes of {target.bdf}'s configuration space, "
            "so it knows of no AER",
            hint="this machine has no ECAM: use a q35 machine",
        )
    if path is None or path.device.aer is None:
        hint = f"it gets one with -p globals={target.driver}.aer=on" if "virtio" in target.driver else None
        raise InputError(
            f"inject: {target} ({target.driver}) at {target.bdf} has no AER capability",
            hint=hint or "root ports have one: the error of a port concerns what is below it",
        )
    return path


async def _set_severity(guest: Guest, target: Target, record: ErrorRecord, severity: ErrorSeverity) -> ErrorPath:
    """Write the severity register; raise BrokenError if it does not take it."""
    mask = record.uncorrectable
    value = mask if severity is ErrorSeverity.FATAL else 0
    await guest.act(f"setpci -s {target.bdf} ECAP_AER+{SEVERITY_AT:x}.l={value:08x}:{mask:08x}")
    path = await _readable(guest, target)
    wrong = next((each for each in record.errors if path.device.severity_of(each) is not severity), None)
    if wrong:
        raise BrokenError(f"inject: the severity register of {target} does not take {severity} for {wrong.kernel}")
    return path
