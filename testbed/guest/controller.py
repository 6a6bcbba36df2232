"""A controller as the guest sees it: proven by its driver, and by the root hubs of a USB one."""

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
    root_hubs: tuple[str, ...]  #: of a USB controller: `usb1`
    works: bool
    observed: str
    evidence: str

    @property
    def finding(self) -> Finding:
        """Return the proof as a finding."""
        return Finding(
            subject=f"controller {self.device_id}",
            expected="a bound driver, and root hubs if it is for USB",
            observed=self.observed,
            evidence=self.evidence,
        )


async def await_controller(guest: Guest, device_id: str, *, seconds: float) -> bool:
    """Wait up to `seconds` guest seconds for a bound driver."""
    look = f"[ -e {(await address_of(guest.machine, device_id)).sysfs}/driver ]"
    guest.machine.journal.step("guest", f"sleep 1; {look} || echo no driver of {device_id}")
    return await guest.shell.wait_until_succeeds(look, seconds=seconds)


async def prove_controller(guest: Guest, device_id: str) -> ControllerProof:
    """Look for the bound driver, and for the root hubs that a working USB controller brings."""
    address = await address_of(guest.machine, device_id)
    folder = address.sysfs
    shown = await show(guest, f"{folder}/driver", f"{folder}/class", f"{folder}/usb*/maxchild")
    driver = PurePosixPath(shown.links.get(f"{folder}/driver", "")).name
    hubs = tuple(PurePosixPath(path).parent.name for path in shown.matching(f"{folder}/usb*/maxchild"))
    is_usb = shown.text(f"{folder}/class").startswith(_USB)
    return ControllerProof(
        device_id=device_id,
        driver=driver,
        root_hubs=hubs,
        works=bool(driver) and (bool(hubs) or not is_usb),
        observed=_observed(address, driver, hubs, is_usb=is_usb),
        evidence=shown.evidence,
    )


def _observed(address: Bdf, driver: str, hubs: tuple[str, ...], *, is_usb: bool) -> str:
    bound = f"{address} is bound to {driver}" if driver else f"{address} has no driver"
    return f"{bound}, root hubs: {' '.join(hubs) or 'none'}" if is_usb else bound
