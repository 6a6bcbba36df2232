"""A controller, or any other function: proven by its driver, and by the root hubs of a USB one.

What no driver of the image is for, as QEMU's pci-testdev, needs none to be alive.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.guest.pci import address_of
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf

#: base class and subclass of a USB controller (PCI Code and ID Assignment Specification, 1.3)
_USB = "0x0c03"


@dataclass(frozen=True, kw_only=True)
class ControllerProof:
    """What a proof of life found."""

    device_id: str
    driver: str  #: that is bound; empty if none is
    fits: bool  #: the image has a driver for it
    root_hubs: tuple[str, ...]  #: of a USB controller: `usb1`
    works: bool
    observed: str
    evidence: str

    @property
    def finding(self) -> Finding:
        """Return the proof as a finding."""
        return Finding(
            subject=f"controller {self.device_id}",
            expected="a bound driver if the image has one for it, and root hubs if it is for USB",
            observed=self.observed,
            evidence=self.evidence,
        )


async def await_controller(guest: Guest, device_id: str, *, seconds: float) -> bool:
    """Wait up to `seconds` guest seconds for a bound driver."""
    folder = (await address_of(guest.machine, device_id)).sysfs
    look = f"[ -e {folder}/driver ]"
    guest.machine.journal.step("guest", f"sleep 1; {look} || echo no driver of {device_id}")
    if not await _driver_fits(guest, folder):
        return False
    return await guest.shell.wait_until_succeeds(look, seconds=seconds)


async def _driver_fits(guest: Guest, folder: str) -> bool:
    """Return whether a driver is bound, or the image has one for the function, which is loaded as udev does."""
    command = f"[ -e {folder}/driver ] || modprobe -q $(cat {folder}/modalias)"
    return (await guest.shell.run(command)).status == 0


async def prove_controller(guest: Guest, device_id: str) -> ControllerProof:
    """Look for the bound driver, and for the root hubs that a working USB controller brings."""
    address = await address_of(guest.machine, device_id)
    folder = address.sysfs
    shown = await show(guest, f"{folder}/driver", f"{folder}/class", f"{folder}/usb*/maxchild")
    driver = PurePosixPath(shown.links.get(f"{folder}/driver", "")).name
    hubs = tuple(PurePosixPath(path).parent.name for path in shown.matching(f"{folder}/usb*/maxchild"))
    is_usb = shown.text(f"{folder}/class").startswith(_USB)
    fits = bool(driver) or await _driver_fits(guest, folder)
    return ControllerProof(
        device_id=device_id,
        driver=driver,
        fits=fits,
        root_hubs=hubs,
        works=(bool(driver) or not fits) and (bool(hubs) or not is_usb),
        observed=_observed(address, driver, hubs, fits=fits, is_usb=is_usb),
        evidence=shown.evidence,
    )


def _observed(address: Bdf, driver: str, hubs: tuple[str, ...], *, fits: bool, is_usb: bool) -> str:
    without = f"{address} has no driver" + ("" if fits else ", the image has none for it")
    bound = f"{address} is bound to {driver}" if driver else without
    return f"{bound}, root hubs: {' '.join(hubs) or 'none'}" if is_usb else bound
