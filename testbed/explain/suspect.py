"""What may be to blame, and what each option of the kernel's is known to do.

All options but those marked were tried on q35 with Linux 6.1; the marked ones were read in source.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testbed.explain.evidence import Evidence
    from testbed.model.cmdline import CommandLine


class Blame(enum.StrEnum):
    """What kind of thing is suspected."""

    OPTION = "option"
    KERNEL = "kernel configuration"
    FIRMWARE = "firmware"


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """One thing that may be to blame."""

    name: str  #: an option as the command line has it, or what else it is
    blame: Blame
    why: str
    evidence: tuple[str, ...]
    takes: tuple[str, ...] = ()  #: the services it costs
    seen: bool = True  #: its effect is seen, not only known


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why something is as it is."""

    text: str
    evidence: tuple[str, ...]
    suspects: tuple[Suspect, ...] = ()
    normal: bool = False  #: nothing is wrong with it

    @property
    def options(self) -> tuple[str, ...]:
        """Return the suspected options of the command line."""
        return tuple(suspect.name for suspect in self.suspects if suspect.blame is Blame.OPTION)


COMPAT, NATIVE = "pcie_ports=compat", "pcie_ports=native"
NO_AER, NO_ACPIPHP, NO_PORTDRV = "pci=noaer", "acpiphp.disable=1", "initcall_blacklist=pcie_portdrv_init"
DPC_NATIVE = "pcie_ports=dpc-native"
POLLED = "pciehp.pciehp_poll_mode=1"
NO_ACPI = ("acpi=off", "pci=noacpi")

EFFECTS = {
    "pcie_aspm=off": "Linux no longer tells the firmware that it supports ASPM and ClockPM, so it asks for no control",
    "pci=nomsi": "Linux no longer tells the firmware that it supports MSI, so it asks for no control",
    "pci=nommconf": "without ECAM Linux cannot announce ExtendedConfig to the firmware, so it asks for no control",
    "pci=conf1": "without ECAM Linux cannot announce ExtendedConfig to the firmware, so it asks for no control",
    COMPAT: "it turns the PCIe port services off, even next to pcie_ports=native",
    NATIVE: "pciehp takes slots that the platform keeps to itself; under QEMU's ACPI hot-plug these always look empty",
    NO_AER: "it turns AER off; hot-plug and PME stay",
    NO_ACPIPHP: "it turns off the driver of the slots that the platform keeps",
    NO_PORTDRV: "the PCIe port driver does not start, whatever _OSC granted",
    "acpi=off": "no _OSC and no ECAM: AER registers cannot be reached",
    "pci=noacpi": "no host bridge is taken from ACPI, so there is no _OSC",  # source
}
#: what works through `_OSC` alone, and does nothing where there is none
BY_OSC = ("pcie_aspm=off", "pci=nomsi")
#: what stands in many command lines, and has no effect on who controls what
HARMLESS = {
    "pcie_aspm=force": "it enables ASPM and costs no _OSC bit",
    "pcie_pme=nomsi": "the ports use INTx instead of MSI; pciehp, AER and PME work",
    "pcie_hp=nomsi": "an option of Linux 2.6 that no later kernel has",
    "pci=noats": "it affects address translation only",
    POLLED: "pciehp polls its slots, and needs no interrupt",
}


def option(name: str, evidence: tuple[str, ...], *, seen: bool = True) -> Suspect:
    """Return an option as a suspect."""
    return Suspect(name=name, blame=Blame.OPTION, why=EFFECTS[name], evidence=evidence, seen=seen)


def effects_given(evidence: Evidence) -> list[str]:
    """Return the options of the command line that can take control away."""
    taking = [name for name in EFFECTS if name != NATIVE]
    return [name for name in taking if evidence.has(name)]


def takes_ports_natively(evidence: Evidence) -> bool:
    """Return whether the port services run whatever `_OSC` says; compat wins over native, wherever it stands."""
    return evidence.has(NATIVE) and not evidence.has(COMPAT) and not evidence.has(NO_PORTDRV)


def merged(suspects: Iterable[Suspect]) -> tuple[Suspect, ...]:
    """Return each suspect once, with everything it costs; a seen effect counts more than a known one."""
    by_name: dict[str, Suspect] = {}
    for suspect in suspects:
        known = by_name.get(suspect.name, suspect)
        by_name[suspect.name] = replace(
            known if known.seen else suspect,
            takes=tuple(dict.fromkeys([*known.takes, *suspect.takes])),
            evidence=tuple(dict.fromkeys([*known.evidence, *suspect.evidence])),
        )
    return tuple(by_name.values())


def without(line: CommandLine, names: Iterable[str]) -> str:
    """Return a command line without some options, also where one stands in a list of values; all else verbatim."""
    unwanted = set(names)
    kept = [_without(word, unwanted) for word in line.options]
    after = ["--", *line.init_arguments] if "--" in line.words else []
    return " ".join(word for word in [*kept, *after] if word)


def _without(word: str, unwanted: set[str]) -> str:
    name, separator, value = word.partition("=")
    spelt = name.replace("-", "_")
    parts = value.split(",")
    kept = [part for part in parts if f"{spelt}={part}" not in unwanted]
    if not separator or len(kept) == len(parts):
        return word
    return f"{name}={','.join(kept)}" if kept else ""
