"""What is done about an error that stops a VM: before it, to prevent the stop, or after it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.reset import reset
from testbed.machine.revival import INTERNAL_ERROR, revive
from testbed.model.errors import BrokenError
from testbed.scenarios.passthrough_state import PASSED, VM
from testbed.scenarios.vm_life import look

if TYPE_CHECKING:
    from types import TracebackType

    from testbed.guest.guest import Guest
    from testbed.machine.qmp import EventWaiter
    from testbed.model.pci import Bdf
    from testbed.scenarios.vm_life import VmLife

REMEDIES = {
    "none": "nothing",
    "unplug": "unplug the VM's function before the error, and plug it again afterwards",
    "unbind": "unbind the VM's driver before the error",
    "unbind-pf": "unbind the PF's driver at level 1 before the error, which removes the VFs",
    "mask": "mask all uncorrectable errors of the function that is to get one",
    "reset": "reset the VM afterwards",
    "watch": "watch the VM's QEMU, and reset the VM when it stops, as `testbed revive` does",
}
#: wall seconds from the PF's unbinding, which waits for the VM, to QEMU's event
_DELETED_SECONDS = 60.0
#: those after which the VM has booted anew
RESETS = ("reset", "watch")


async def take_out(vm: Guest) -> None:
    """Have the VM give up the function."""
    if (outcome := (await unplug(vm, PASSED)).outcome) is not UnplugOutcome.DELETED:
        raise BrokenError(f"taking {PASSED} out of the VM: {outcome}")


async def unbind(guest: Guest, place: Bdf) -> None:
    """Take the driver off a function."""
    await guest.act(f"echo {place} > {place.sysfs}/driver/unbind")


async def unbind_pf(host: Guest, vm: Guest, pf: Bdf) -> None:
    """Take the host's driver off the PF; its VFs go, and the VM is asked to give up the one that it has."""
    with vm.machine.qmp.listen("DEVICE_DELETED", device=PASSED) as deleted:
        await unbind(host, pf)
        try:
            async with asyncio.timeout(_DELETED_SECONDS):
                await deleted.wait()
        except TimeoutError:
            raise BrokenError(f"{pf} has no driver any more, but the VM keeps {PASSED}") from None


async def mask(host: Guest, place: Bdf) -> None:
    """Mask every uncorrectable error of a function (PCIe Base 6.3, 7.8.4.3)."""
    await host.act(f"setpci -s {place} ECAP_AER+8.l=ffffffff")


async def reset_vm(vm: Guest) -> None:
    """Reset a VM that QEMU has stopped, as a watcher does, and load its drivers anew."""
    async with reset(vm, ask=lambda: revive(vm.machine.qmp.execute, [INTERNAL_ERROR])):
        pass
    await vm.load_modules(*VM.modules)


class Watcher:
    """Resets the VM as soon as it is stopped, as long as this is entered."""

    def __init__(self, vm: Guest, position: int) -> None:
        self._vm = vm
        self._position = position
        self._task: asyncio.Task[VmLife] | None = None
        self._stopped: EventWaiter | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0)  # until it listens
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def life(self) -> VmLife:
        """Return what was seen of the VM as it stopped, once it has booted anew; raise BrokenError if it did not."""
        if self._task is None or self._stopped is None or self._stopped.event is None:
            raise BrokenError("the VM was not stopped, so there was nothing to watch for")
        return await self._task

    async def _watch(self) -> VmLife:
        with self._vm.machine.qmp.listen("STOP") as self._stopped:
            await self._stopped.wait()
        life = await look(self._vm, self._position)
        await reset_vm(self._vm)
        return life
