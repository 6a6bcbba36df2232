"""Rules about bridges and what stands below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lint.ranges import decoded_ranges, is_enabled
from testbed.lint.rule import Hit, Missing, error, note
from testbed.lint.rules.bar import SIZES_UNKNOWN
from testbed.model.bridge import BUSES_AT, CONTROL_AT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.lint.function import Function, Topology
    from testbed.model.bar import Space


@error(
    "bridge-buses",
    satisfy="secondary..subordinate lies within the range of the bridge above and overlaps no sibling's range",
    source="PCIe Base 6.3, 7.3.3 and 7.5.1.3.3, 7.5.1.3.4",
    reads=64,
    mend="renumber the buses: boot Linux with pci=assign-busses; failing that, it is up to the firmware",
)
def bridge_buses(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find bus numbers by which a bridge cannot be reached, or reaches what is not below it."""
    bridge, above = function.bridge, topology.bridge_above(function)
    if not function.bdf or not bridge or not bridge.secondary:
        return
    buses = f"buses {bridge.secondary:02x}..{bridge.subordinate:02x}"
    if bridge.subordinate < bridge.secondary:
        yield Hit(message=f"{buses}: the subordinate is below the secondary", at=BUSES_AT)
    if bridge.secondary == function.bdf.bus:
        yield Hit(message=f"{buses}: the bus below it is the bus it is on", at=BUSES_AT)
    if above and above.bridge and bridge.subordinate > above.bridge.subordinate:
        yield Hit(message=f"{buses} reach past {above.name}'s, {above.bridge.subordinate:02x}", at=BUSES_AT)
    sibling = topology.bus_clash(function)
    if sibling and sibling.bridge:
        end = sibling.bridge.subordinate
        yield Hit(
            message=f"{buses} begin within {sibling.name}'s, {sibling.bridge.secondary:02x}..{end:02x}", at=BUSES_AT
        )


@error(
    "bridge-window",
    satisfy="one window of the bridge above covers all of the range, and the bridge's Command register enables it",
    source="PCIe Base 6.3, 7.5.1.3.6 to 7.5.1.3.10",
    reads=64,
    mend="reassign windows and addresses: boot Linux with pci=realloc; failing that, it is up to the firmware",
)
def bridge_window(function: Function, topology: Topology) -> Iterator[Hit | Missing]:
    """Find what a function decodes or forwards, and the bridge above does not let through."""
    above = topology.bridge_above(function)
    if not above or not above.bridge or above.bridge.subtractive:
        return
    for name, at, space, start, end in _wanted(function):
        if not is_enabled(above, space):
            yield Hit(message=f"{name} is not reached: {above.name} has {space} decoding off", at=at)
        elif not any(each.space is space and each.covers(start, end) for each in above.bridge.windows):
            windows = _windows(above, space)
            yield Hit(message=f"{name} is outside the {space} windows of {above.name}: {windows}", at=at)
    if any(not each.exact for each in decoded_ranges(function)):
        yield SIZES_UNKNOWN


def _wanted(function: Function) -> Iterator[tuple[str, int, Space, int, int]]:
    """Yield name, register, kind, start and end of all that has to reach a function."""
    for each in decoded_ranges(function):
        yield str(each), each.at, each.space, each.start, each.end
    for window in function.bridge.windows if function.bridge else ():
        if is_enabled(function, window.space):
            name = f"its {window.name} window ({window.start:#x}..{window.end:#x})"
            yield name, window.at, window.space, window.start, window.end


def _windows(bridge: Function, space: Space) -> str:
    windows = [each for each in bridge.bridge.windows if each.space is space] if bridge.bridge else []
    return ", ".join(f"{each.start:#x}..{each.end:#x}" for each in windows) or "none is open"


@note("error-forwarding", source="PCIe Base 6.3, 6.2.8.1 and 7.5.1.3.13", reads=64)
def error_forwarding(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say which bridge keeps error messages from below to itself."""
    if function.bridge and not function.bridge.forwards_errors:
        message = "Bridge Control SERR# Enable is off: non-fatal and fatal errors from below are not forwarded"
        yield Hit(message=message, at=CONTROL_AT)


RULES = (bridge_buses, bridge_window, error_forwarding)
