"""The room that a PCI function got: its BARs, where the guest put each, and what the bridge above forwards.

QEMU says which BARs there are and how large: Linux forgets those it finds no room for (`reset_resource()` in
drivers/pci/setup-bus.c, up to 6.12 at least).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.bars import parse_resources
from testbed.guest.files import show
from testbed.guest.pci import function_of, place_of
from testbed.model.bar import Space, size_words
from testbed.model.bridge import read_bridge
from testbed.model.config_space import SIZES, ConfigSpace
from testbed.model.outcome import Finding
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from testbed.guest.guest import Guest
    from testbed.model.bridge import Window
    from testbed.model.spec import Device

#: the number QEMU gives the expansion ROM, which Linux assigns only when somebody wants it
_ROM = 6


@dataclass(frozen=True, kw_only=True)
class WantedBar:
    """A BAR that a device has, and where the guest put it."""

    index: int
    space: Space
    size: int
    prefetchable: bool
    wide: bool  #: 64 bits
    start: int | None  #: None if it has no address

    def __str__(self) -> str:
        kind = "I/O" if self.space is Space.IO else f"{64 if self.wide else 32}-bit memory"
        return f"BAR {self.index} ({size_words(self.size)}, {kind}{', prefetchable' if self.prefetchable else ''})"


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a function got."""

    device_id: str
    address: Bdf
    bars: tuple[WantedBar, ...]
    port: Bdf | None  #: the bridge above it; None on a root bus
    windows: tuple[Window, ...]  #: what that bridge forwards
    link: str  #: the speed and width of its link; empty if it has none
    wanted_index: str  #: the number that firmware is to call it by (acpi-index); empty if it has none
    index: str  #: what the guest has of that
    is_bridge: bool
    has_bus: bool  #: of a bridge: it got a bus number
    evidence: str

    @property
    def lacking(self) -> list[WantedBar]:
        """Return the memory BARs without an address: a driver seldom misses the ports that memory stands in for."""
        return [bar for bar in self.bars if bar.start is None and bar.space is Space.MEMORY]

    @property
    def findings(self) -> list[Finding]:
        """Return where the BARs are, and the link and the firmware's number if there are such."""
        placed = [f"{bar} {f'at {bar.start:#x}' if bar.start is not None else 'without address'}" for bar in self.bars]
        bars = Finding(
            subject=f"BARs of {self.device_id}",
            expected="an address each",
            observed="; ".join(placed) or "it has none",
            evidence=self.evidence,
        )
        link = Finding(subject=f"link of {self.device_id}", expected="any", observed=self.link, evidence=self.evidence)
        index = Finding(
            subject=f"firmware's number of {self.device_id}",
            expected=self.wanted_index,
            observed=self.index or "none",
            evidence=self.evidence,
        )
        return [bars, *([link] if self.link else []), *([index] if self.wanted_index else [])]

    def window_words(self, bar: WantedBar) -> str:
        """Say how large the window is that a BAR would have to be in."""
        name = "prefetchable" if bar.prefetchable else "memory"
        above = f"port {self.port}"
        found = next((each for each in self.windows if each.name == name), None)
        if found is None:
            return f"the {name} window of {above} is closed"
        return f"the {name} window of {above} is {size_words(found.end - found.start + 1)} at {found.start:#x}"


async def read_room(guest: Guest, device: Device) -> Room:
    """Return what a PCI device's function got."""
    function = await function_of(guest.machine, device.id)
    address = Bdf(0, function["bus"], function["slot"], function["function"])
    port = (await place_of(guest.machine, device)).port
    names = ("resource", "acpi_index", "current_link_speed", "current_link_width", "pci_bus/*/cpuaffinity")
    above = [f"{port.sysfs}/config"] if port else []
    shown = await show(guest, *(f"{address.sysfs}/{name}" for name in names), *above)
    placed = {bar.index: bar.start for bar in parse_resources(shown.text(f"{address.sysfs}/resource"))}
    speed, width = (shown.text(f"{address.sysfs}/current_link_{each}") for each in ("speed", "width"))
    return Room(
        device_id=device.id,
        address=address,
        bars=tuple(_bar(each, placed) for each in function["regions"] if each["bar"] != _ROM),
        port=port,
        windows=_windows(shown.files.get(above[0], b"")) if above else (),
        link=f"{speed} x{width}" if speed and width not in ("", "0") else "",
        wanted_index=str(device.properties.get("acpi-index", "")),
        index=shown.text(f"{address.sysfs}/acpi_index"),
        is_bridge="pci_bridge" in function,
        has_bus=bool(shown.matching(f"{address.sysfs}/pci_bus/*/cpuaffinity")),
        evidence=shown.evidence,
    )


def _bar(region: Mapping[str, Any], placed: Mapping[int, int]) -> WantedBar:
    return WantedBar(
        index=region["bar"],
        space=Space.IO if region["type"] == "io" else Space.MEMORY,
        size=region["size"],
        prefetchable=region.get("prefetch", False),
        wide=region.get("mem_type_64", False),
        start=placed.get(region["bar"]),
    )


def _windows(config: bytes) -> tuple[Window, ...]:
    bridge = read_bridge(ConfigSpace(config)) if len(config) in SIZES else None
    return bridge.windows if bridge else ()
