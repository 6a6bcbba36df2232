"""The starting states that scenarios share: a device that is there and works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.guest.device_proof import await_device, prove_device
from testbed.guest.drivers import load_drivers
from testbed.model.device_kind import KINDS, device_kind, kinds_of
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.scenarios.hotplug_judgement import PROBE_SECONDS

if TYPE_CHECKING:
    from testbed.model.outcome import Finding
    from testbed.model.spec import Device, MachineSpec
    from testbed.scenarios.trial import Trial

#: drivers of the disk that most machines have, loaded before the guest is saved; those of another are loaded after that
DISK_MODULES = device_kind("virtio-blk").modules


def cold_devices(spec: MachineSpec, kind: str) -> list[Device]:
    """Return the cold-plugged devices of a kind, in their order: `disk`, `nic`, or a short name such as `nvme`."""
    drivers = {each.driver for each in kinds_of(kind)}
    return [device for device in spec.devices if device.driver in drivers]


def first_cold(spec: MachineSpec, kind: str) -> Device:
    """Return the first cold-plugged device of a kind; raise UnsupportedError if there is none."""
    found = cold_devices(spec, kind)
    if not found:
        first, *_ = kinds_of(kind)
        what = first.noun if kind == first.proof else kind
        raise UnsupportedError(f"the machine has no cold-plugged {what}", hint=f"give it one: -p devices={first.name}")
    return found[0]


async def cold_device(trial: Trial, kind: str) -> Device:
    """Return the first cold-plugged device of a kind, proven to work; raise UnsupportedError if there is none."""
    device = first_cold(trial.spec, kind)
    await load_driver(trial, device)
    await prove(trial, device)
    return device


async def load_driver(trial: Trial, device: Device) -> None:
    """Load what a device of this kind needs in the guest; raise BrokenError if the image lacks it."""
    if modules := device_kind(device.driver).modules:
        await trial.guest.load_modules(*modules)


async def prove(trial: Trial, device: Device) -> Finding:
    """Return the proof that a device works; raise BrokenError if it does not: a starting state was not reached."""
    await await_device(trial.guest, device, seconds=PROBE_SECONDS)
    proof = await prove_device(trial.guest, device)
    if not proof.works:
        what = f"{device_kind(device.driver).noun} {device.id}"
        raise BrokenError(f"starting state: {what} does not work in the guest: {proof.observed}")
    return proof.finding


def endpoints(spec: MachineSpec, below: str = "") -> list[Device]:
    """Return the devices that can be proven to work; with `below`, that device itself or those below that port."""
    known = {kind.driver for kind in KINDS}
    found = [device for device in spec.devices if device.driver in known]
    return [device for device in found if not below or below in chain(spec, device.id)]


def chain(spec: MachineSpec, device_id: str) -> list[str]:
    """Return a device's id and those of the ports above it, the root port last."""
    parents = {device.id: device.bus for device in spec.devices}
    ids = []
    at: str | None = device_id
    while at in parents and at not in ids:
        ids.append(at)
        at = parents[at]
    return ids


async def prove_all(trial: Trial, devices: list[Device]) -> None:
    """Load drivers and prove that the devices work; raise BrokenError if one does not."""
    await load_drivers(trial.guest)
    for device in devices:
        await prove(trial, device)
