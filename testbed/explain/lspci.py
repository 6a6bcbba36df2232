"""The output of lspci in its common forms: plain, -n, -nn, -k, -v to -vvv, with or without domains.

Source: pciutils lspci.c, ls-caps.c, ls-ecaps.c. Several outputs of one machine are one tree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from testbed.explain.source import Line, Part

_HEADING = re.compile(r"((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]) (\S.*)")
_SECONDARY = re.compile(r"secondary=([0-9a-f]{2})")
_SUBORDINATE = re.compile(r"subordinate=([0-9a-f]{2})")
_SLOT = re.compile(r"Slot #([0-9]{1,5})")
#: class 0604, all that the port driver binds beside event collectors (port_pci_ids in drivers/pci/pcie/portdrv.c)
_BRIDGE = re.compile(r"PCI bridge\b|(?:Class )?0604\b|[^:]{1,60}\[0604\]")
_EXPRESS = re.compile(r"Express (?:\(v[0-9]\) )?((?:Root|Downstream) Port) \(Slot([+-])\)")

#: what a host bridge or a device of QEMU's is known by, as `lspci -n` and `-nn` print it
_Q35, _I440FX = "8086:29c0", "8086:1237"
_MAX_HEADING = 400
_QEMU_IDS = ("1b36:", "1af4:", "QEMU", "Virtio")


@dataclass(frozen=True, kw_only=True)
class Function:
    """One function and the lines about it."""

    address: Bdf
    heading: str
    reference: str
    details: tuple[tuple[str, str], ...] = ()  #: each line without its indent, and what cites it

    def detail(self, start: str) -> tuple[str, str] | None:
        """Return the first line that begins so, and what cites it."""
        return next((line for line in self.details if line[0].startswith(start)), None)

    def flag(self, start: str, name: str) -> bool | None:
        """Return whether the line that begins so has `name+`; None where neither it nor `name-` is there."""
        text = (self.detail(start) or ("", ""))[0]
        words = text.replace(",", " ").split()
        return True if f"{name}+" in words else False if f"{name}-" in words else None

    def cite(self, *starts: str) -> tuple[str, ...]:
        """Return what cites the lines that begin so; the function's own line where none is there."""
        found = [line[1] for start in starts if (line := self.detail(start))]
        return tuple(found) or (self.reference,)

    @property
    def driver(self) -> str:
        """Return the driver that has the function."""
        return (self.detail("Kernel driver in use:") or (": ", ""))[0].partition(":")[2].strip()

    @property
    def is_bridge(self) -> bool:
        """Return whether it is a PCI-to-PCI bridge by its class; a root port may be a host bridge by it."""
        return _BRIDGE.match(self.heading) is not None

    @property
    def shows_slot(self) -> bool:
        """Return whether it is shown what slot is behind the port, if it is one."""
        return self.is_verbose and (not self.has_slot or self.detail("SltCap:") is not None)

    @property
    def port(self) -> str:
        """Return `Root Port` or `Downstream Port`; empty if it is neither."""
        return self._express[1] if self._express else ""

    @property
    def has_slot(self) -> bool:
        """Return whether the port says that a slot is behind it."""
        return self._express is not None and self._express[2] == "+"

    @property
    def slot(self) -> str:
        """Return the number of the slot behind the port."""
        match = next((match for text, _ in self.details if (match := _SLOT.match(text))), None)
        return match[1] if match else ""

    @property
    def secondary(self) -> int | None:
        """Return the number of the bus behind a bridge."""
        match = _SECONDARY.search((self.detail("Bus: primary=") or ("", ""))[0])
        return int(match[1], 16) if match else None

    @property
    def buses_below(self) -> range:
        """Return the numbers of the buses below a bridge."""
        text = (self.detail("Bus: primary=") or ("", ""))[0]
        first, last = _SECONDARY.search(text), _SUBORDINATE.search(text)
        return range(int(first[1], 16), int(last[1], 16) + 1) if first and last else range(0)

    @property
    def is_gone(self) -> bool:
        """Return whether the function answers nothing but ones: powered off or removed, and still in the guest."""
        return "(rev ff)" in self.heading or self.detail("!!! Unknown header type 7f") is not None

    @property
    def is_verbose(self) -> bool:
        """Return whether the capabilities were listed."""
        return self.detail("Capabilities:") is not None and not self.is_denied

    @property
    def is_denied(self) -> bool:
        """Return whether lspci was not allowed to read the capabilities."""
        return self.detail("Capabilities: <access denied>") is not None

    @property
    def _express(self) -> re.Match[str] | None:
        return next((match for text, _ in self.details if (match := _EXPRESS.search(text))), None)


@dataclass(frozen=True, kw_only=True)
class PciTree:
    """The functions of one machine."""

    functions: tuple[Function, ...]

    @property
    def is_whole(self) -> bool:
        """Return whether the first function of all is there, and a bridge to what stands on other buses: not `-s`."""
        is_first_there = any(str(each.address) == "0000:00:00.0" for each in self.functions)
        return is_first_there and (bool(self.bridges) or all(each.address.bus == 0 for each in self.functions))

    @property
    def bridges(self) -> tuple[Function, ...]:
        """Return the PCI-to-PCI bridges, which any port is that the port driver may have."""
        return tuple(each for each in self.functions if each.is_bridge)

    @property
    def has_no_port(self) -> bool:
        """Return whether lspci shows of every bridge what it is, and none is a port of PCI Express."""
        bridges = self.bridges
        return self.is_whole and all(each.is_verbose for each in bridges) and not any(each.port for each in bridges)

    @property
    def slots(self) -> tuple[Function, ...]:
        """Return the ports whose slot can be hot-plugged."""
        return tuple(port for port in self.functions if port.flag("SltCap:", "HotPlug"))

    @property
    def with_aer(self) -> tuple[Function, ...]:
        """Return the root ports that can report errors."""
        capable = (port for port in self.bridges if port.port == "Root Port")
        return tuple(port for port in capable if port.detail("RootCmd:"))

    def behind(self, port: Function) -> tuple[Function, ...]:
        """Return the functions on the bus behind a port."""
        if port.secondary is None:
            return ()
        return tuple(self._by_bus.get((port.address.domain, port.secondary), ()))

    @cached_property
    def _by_bus(self) -> dict[tuple[int, int], list[Function]]:
        found: dict[tuple[int, int], list[Function]] = {}
        for each in self.functions:
            found.setdefault((each.address.domain, each.address.bus), []).append(each)
        return found

    @property
    def machine(self) -> str:
        """Return `q35` or `i440fx` by QEMU's host bridge; empty for any other."""
        first = next((each for each in self.functions if str(each.address) == "0000:00:00.0"), None)
        if first is None or not self.is_qemu:
            return ""
        names = {"q35": (_Q35, "82G33/G31/P35/P31"), "i440fx": (_I440FX, "440FX")}
        return next((name for name, marks in names.items() if any(mark in first.heading for mark in marks)), "")

    @property
    def is_qemu(self) -> bool:
        """Return whether QEMU's own devices are there."""
        texts = (text for each in self.functions for text in (each.heading, *(each.detail("Subsystem:") or ("",))[:1]))
        return any(mark in text for text in texts for mark in _QEMU_IDS)


@dataclass
class _Draft:
    address: Bdf
    heading: str
    reference: str
    details: list[tuple[str, str]] = field(default_factory=list)


def read_lspci(parts: Sequence[Part]) -> PciTree:
    """Read one machine's functions out of one or several outputs."""
    drafts: dict[Bdf, _Draft] = {}
    for part in parts:
        _read(part.lines, drafts)
    functions = (
        Function(address=draft.address, heading=draft.heading, reference=draft.reference, details=tuple(draft.details))
        for draft in drafts.values()
    )
    return PciTree(functions=tuple(sorted(functions, key=lambda each: each.address)))


def _read(lines: Iterable[Line], drafts: dict[Bdf, _Draft]) -> None:
    current: _Draft | None = None
    for line in lines:
        match = _HEADING.match(line.text)
        if match:
            address = Bdf.parse(match[1])
            current = drafts.setdefault(address, _Draft(address, match[2], line.reference))
            # -nn has the numbers that -vvv alone has not
            if len(current.heading) < _MAX_HEADING and match[2] not in current.heading:
                current.heading += f" {match[2]}"
        elif current is not None and line.text[:1] in ("\t", " ") and line.text.strip():
            current.details.append((" ".join(line.text.split()), line.reference))
