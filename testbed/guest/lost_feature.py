"""What a device has but the guest does not use, because of an option on its command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.explain.lost_feature import Feature, takers
from testbed.guest.files import show
from testbed.machine.hardware_config import hardware_config
from testbed.model.capabilities import extended_name
from testbed.model.cmdline import CommandLine
from testbed.model.config_space import EXTENDED_START, SIZES, ConfigSpace
from testbed.model.errors import TakenAwayError
from testbed.model.msix import read_msix

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf


@dataclass(frozen=True, kw_only=True)
class LostFeature:
    """Something that the hardware has and the guest lacks, because options take it away."""

    text: str
    options: tuple[str, ...]
    evidence: str

    @property
    def error(self) -> TakenAwayError:
        """Return it as what kept a starting state from being reached."""
        return TakenAwayError(self.text, self.options, evidence=self.evidence)

    @property
    def words(self) -> str:
        """Return it as a reason."""
        return self.error.message


async def hidden_capability(guest: Guest, bdf: Bdf, capability: int) -> LostFeature | None:
    """Return why the guest does not see an extended capability that the device has; None if it sees as far as it could.

    That the device has it is read behind the guest's back.
    """
    options = takers(Feature.EXTENDED_CONFIG, CommandLine(guest.machine.boot.cmdline))
    path = f"{bdf.sysfs}/config"
    shown = await show(guest, path)
    if not options or len(shown.files.get(path, b"")) != EXTENDED_START:
        return None
    hardware = await hardware_config(guest.machine, bdf)
    found = hardware.extended.find(capability) if hardware else None
    if found is None:
        return None
    name = extended_name(capability)
    text = f"{bdf} has {name} at {found.offset:#x}, of which the guest, reading {EXTENDED_START} bytes, does not know"
    return LostFeature(text=text, options=options, evidence=shown.evidence)


async def msix_off(guest: Guest, bdf: Bdf) -> LostFeature | None:
    """Return which option keeps a device's driver from MSI-X; None if it is on, or nothing is known to do that."""
    options = takers(Feature.MSIX, CommandLine(guest.machine.boot.cmdline))
    config, driver = f"{bdf.sysfs}/config", f"{bdf.sysfs}/driver"
    shown = await show(guest, config, driver)
    data = shown.files.get(config, b"")
    msix = read_msix(ConfigSpace(data)) if len(data) in SIZES else None
    if not options or msix is None or msix.enabled or driver not in shown.links:
        return None
    return LostFeature(text=f"the MSI-X of {bdf} is off", options=options, evidence=shown.evidence)
