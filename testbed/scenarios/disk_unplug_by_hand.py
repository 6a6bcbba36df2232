"""Scenario disk-unplug-by-hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.unplug import UnplugOutcome, removal, unplug
from testbed.guest.hotplug_control import by_hand, read_control
from testbed.guest.pci import address_of
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.model.outcome import Finding
from testbed.model.parameter import Parameter
from testbed.scenarios.hotplug_judgement import judge_unplug
from testbed.scenarios.scenario import PATIENCE, scenario
from testbed.scenarios.starting_state import DISK_MODULES, cold_device

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.model.outcome import Judgement
    from testbed.model.pci import Bdf
    from testbed.scenarios.trial import Trial

#: guest seconds after which an unplug counts as ignored; a slow slot driver needs seven
_IGNORED_SECONDS = 10.0
_WRITE = Parameter(
    type="str",
    default="word",
    choices=["word", "byte"],
    doc="how to write Slot Control: as a 16-bit register, or only the byte that holds the bits",
)


@scenario(modules=DISK_MODULES, warp_safe=True, patience=PATIENCE, options={"write": _WRITE})
async def disk_unplug_by_hand(trial: Trial) -> Judgement:
    """Can a disk that the guest did not release when asked be released by hand, without a reset?

    By hand: the guest's user removes the function, and switches the slot's power and its indicator off in Slot Control
    of the port above. QEMU takes that for the answer to the request (pcie_cap_slot_write_config() in hw/pci/pcie.c),
    from one write of both bits alone. It needs a guest that ignores the request: pcie_aspm=off for native hot-plug.
    """
    guest = trial.guest
    disk = await cold_device(trial, "disk")
    control = await read_control(guest, disk)
    port = control.place.port
    if port is None or control.conventional:
        raise UnsupportedError(f"{disk.id} is not behind a PCI Express port", hint="-m q35 -p hotplug=native")
    before = await unplug(guest, disk.id, seconds=_IGNORED_SECONDS)
    if before.outcome is not UnplugOutcome.IGNORED:
        hint = "take a guest that ignores it: -m 'q35[hotplug=native]' --cmdline pcie_aspm=off"
        raise UnsupportedError(f"the guest did not ignore the unplug: {before.outcome}", hint=hint)
    command = by_hand(await address_of(guest.machine, disk.id), port, whole=trial.options["write"] == "word")
    trial.stimulus(f"in the guest: {command}")
    async with removal(guest, disk.id, seconds=trial.deadline) as going:
        writing = await going.ask_guest(command)
        result = (await going.over())[0]
        done = await writing.wait()
    if done.status:
        raise BrokenError(f"in the guest: {command}: status {done.status}")
    judgement = await judge_unplug(trial, result, control)
    written = await _slot_control(trial.guest, port)
    if result.outcome is UnplugOutcome.DELETED:
        reason = f"released by hand after {result.settled:.1f} s: {command}; nothing else serves port {port}"
    else:
        reason = f"{disk.id} was not released by hand: {judgement.reason}"
    return judgement.model_copy(update={"reason": reason, "findings": (*judgement.findings, written)})


async def _slot_control(guest: Guest, port: Bdf) -> Finding:
    """Return what the register holds afterwards: written in either way, the power and its indicator are off."""
    read = await guest.shell.run(f"setpci -s {port} CAP_EXP+18.w")
    return Finding(
        subject=f"Slot Control of {port}", expected="bits 10:8 set", observed=f"0x{read.text}", evidence=read.evidence
    )
