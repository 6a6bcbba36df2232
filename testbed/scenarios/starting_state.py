"""The starting states that scenarios share: a device that is there and works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import PlugOutcome, plug_parts
from testbed.guest.device_proof import await_device, prove_device
from testbed.model.device_kind import device_kind, hot_device
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.scenarios.hotplug_judgement import PROBE_SECONDS, noun

if TYPE_CHECKING:
    from testbed.model.device_kind import DeviceParts
    from testbed.model.outcome import Finding
    from testbed.model.spec import Device, MachineSpec, Slot
    from testbed.scenarios.trial import Trial


def cold_devices(spec: MachineSpec, *kinds: str) -> list[Device]:
    """Return the cold-plugged devices of these kinds (short names, see model/device_kind.py), in their order."""
    drivers = {device_kind(kind).driver for kind in kinds}
    return [device for device in spec.devices if device.driver in drivers]


async def cold_device(trial: Trial, *kinds: str) -> Device:
    """Return the first cold-plugged device of these kinds, proven to work; raise UnsupportedError if there is none."""
    found = cold_devices(trial.spec, *kinds)
    if not found:
        raise UnsupportedError(
            f"the machine has no cold-plugged {' or '.join(kinds)}", hint=f"give it one: -p devices={kinds[0]}"
        )
    await load_driver(trial, found[0])
    await prove(trial, found[0])
    return found[0]


async def hot_plugged(trial: Trial, name: str, slot: Slot, *, device_id: str = "hot1") -> DeviceParts:
    """Plug a device of this kind and prove that it works."""
    parts = hot_device(name, slot, device_id=device_id)
    await load_driver(trial, parts.device)
    result = await plug_parts(trial.guest, parts, seconds=trial.deadline)
    if result.outcome is not PlugOutcome.PRESENT:
        seen = result.findings[-1].observed
        raise BrokenError(f"starting state: {parts.device.driver} {device_id} could not be plugged: {seen}")
    await prove(trial, parts.device)
    return parts


async def load_driver(trial: Trial, device: Device) -> None:
    """Load what a device of this kind needs in the guest; raise BrokenError if the image lacks it."""
    await trial.guest.load_modules(*device_kind(device.driver).modules)


async def prove(trial: Trial, device: Device) -> Finding:
    """Return the proof that a device works; raise BrokenError if it does not: a starting state was not reached."""
    await await_device(trial.guest, device, seconds=PROBE_SECONDS)
    proof = await prove_device(trial.guest, device)
    if not proof.works:
        what = f"{noun(device)} {device.id}"
        raise BrokenError(f"starting state: {what} does not work in the guest: {proof.observed}")
    return proof.finding
