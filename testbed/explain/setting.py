"""What a line of a system's settings does to PCI: of a crontab or script, of udev's rules, of modprobe's configuration.

The lines are judged by what is known of the kernel's interfaces; nothing is run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.explain.statement import Statement
from testbed.explain.suspect import EFFECTS, HARMLESS
from testbed.model.cmdline import CommandLine

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_LINES = 20_000
#: drivers that serve slots or ports, and are linked into the kernels of distributions: modprobe never loads them
_BUILT_IN = ("pciehp", "acpiphp", "pcieport", "pcie_aspm", "aer", "pci")
#: drivers of PCI devices and buses that a line of modprobe's may be about
_DRIVER = re.compile(
    r"(?:pci\w*|shpchp|acpiphp|aer\w*|vfio\w*|virtio\w*|nvme\w*|igb\w*|ixgbe\w*|i40e\w*|iavf|ice|e1000\w*|mlx[45]\w*"
    r"|xhci\w*|ahci|megaraid\w*|mpt\w*|qla2xxx|lpfc|bnxt\w*|ena|nvidia\w*|nouveau|amdgpu|xen_\w*|hv_\w*|uio\w*)$"
)


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """A pattern in a line, and what it means."""

    pattern: re.Pattern[str]
    meaning: str
    suspicious: bool = False


#: docs/behaviour.md has what was seen of a rescan and of `remove`; the rest is Documentation/ABI/testing/sysfs-bus-pci
_ACTIONS = (
    _Rule(
        pattern=re.compile(r"bus/pci/rescan|pci_bus\S{0,80}/rescan|ATTRS?\{(?:dev_)?rescan\}\s*=[^=]"),
        meaning="rescans PCI buses: that reveals a disk added to a slot nobody serves, unless QEMU (6.2 or "
        "later) has the slot switched off; it hides that hot-plug does not work",
        suspicious=True,
    ),
    _Rule(
        pattern=re.compile(r"/sys/(?:bus/pci/)?devices/\S{0,200}/remove\b|ATTRS?\{remove\}\s*=[^=]"),
        meaning="removes a function from the kernel, not from its slot: it stays in the machine, and a rescan finds it",
        suspicious=True,
    ),
    _Rule(
        pattern=re.compile(r"\bsetpci\b"),
        meaning="writes to configuration space behind the back of the kernel and its drivers",
        suspicious=True,
    ),
    _Rule(
        pattern=re.compile(r"/bus/pci/slots/\S{0,80}/power"),
        meaning="powers a slot on or off outside pciehp's and ACPI's own events",
        suspicious=True,
    ),
    _Rule(
        pattern=re.compile(r"sriov_numvfs|sriov_drivers_autoprobe"),
        meaning="creates virtual functions, or decides whether they get drivers",
    ),
    _Rule(
        pattern=re.compile(r"driver_override|/bus/pci/drivers/\S{0,80}/(?:un)?bind|/new_id\b|/remove_id\b"),
        meaning="gives a function a driver other than the one the kernel would choose",
    ),
    _Rule(
        pattern=re.compile(r"ATTRS?\{d3cold_allowed\}\s*=[^=]|/d3cold_allowed\b"),
        meaning="decides whether a function may be powered down while it is idle",
    ),
    _Rule(
        pattern=re.compile(r"ATTRS?\{power/control\}\s*=[^=]|/sys/bus/pci/devices/\S{0,200}/power/control"),
        meaning="decides whether functions are powered down while they are idle",
    ),
    _Rule(
        pattern=re.compile(r"/sys/bus/pci/devices/\S{0,200}/(?:reset|enable|msi_bus|broken_parity_status)\b"),
        meaning="resets a function, or changes how the kernel drives it",
        suspicious=True,
    ),
    _Rule(
        pattern=re.compile(r"/sys/module/(pcie_aspm|pciehp|acpiphp|shpchp)/parameters"),
        meaning="changes a parameter of the code that serves slots and ports, at run time",
        suspicious=True,
    ),
    _Rule(
        pattern=re.compile(r"\b(?:modprobe|rmmod|insmod)\b.{0,80}\b(?:pciehp|acpiphp|shpchp|vfio[-_]pci)\b"),
        meaning="loads or unloads a driver that serves slots, or passes functions on",
    ),
)
_PCI = re.compile(r"pci|sriov", re.IGNORECASE)
_PCI_RULE = re.compile(r'SUBSYSTEMS?\s*==\s*"[^"]{0,80}\bpci\b|KERNELS?\s*==\s*"(?:0000|\?{4}|\*):')
_PCI_ACTION = re.compile(r"RUN(?:\{\w{1,20}\})?\s*\+?=|ATTR\{[^}]{1,80}\}\s*=[^=]|PROGRAM\s*==")


def settings_of(path: str, text: str) -> Iterator[tuple[str, Statement]]:
    """Yield the lines of a settings file that touch PCI, each with what it does."""
    for number, line in _lines(text):
        stripped = " ".join(line.split())
        if not stripped or stripped.startswith("#"):
            continue
        for meaning, suspicious in _meanings(path, stripped):
            yield stripped, Statement(text=meaning, evidence=(f"{path}:{number}",), suspicious=suspicious)


def option_effects(cmdline: str) -> Iterator[tuple[str, str, bool]]:
    """Yield options of a command line with what they do to PCI, and whether they take control of it away."""
    line = CommandLine(cmdline)
    for known, takes in ((EFFECTS, True), (HARMLESS, False)):
        for name, why in known.items():
            option, _, value = name.partition("=")
            if any(value in given.split(",") for given in line.values(option)):
                yield name, why, takes


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines, those that end with a backslash joined, with the number of the first."""
    joined, first = "", 0
    for number, line in enumerate(text.split("\n")[:_MAX_LINES], 1):
        first = first or number
        if line.endswith("\\") and len(joined) < 1 << 14:
            joined += line[:-1]
            continue
        yield first, joined + line
        joined, first = "", 0


def _meanings(path: str, line: str) -> Iterator[tuple[str, bool]]:
    if "/modprobe.d/" in path:
        yield from _of_modprobe(line)
        return
    rules = path.endswith(".rules")
    if rules and not _PCI.search(line):
        return  # what it matches on is no PCI function
    found = [(rule.meaning, rule.suspicious) for rule in _ACTIONS if rule.pattern.search(line)]
    yield from found
    if not found and rules and _PCI_RULE.search(line) and _PCI_ACTION.search(line):
        yield "acts on PCI functions as they appear and disappear", False


def _of_modprobe(line: str) -> Iterator[tuple[str, bool]]:
    command, _, rest = line.partition(" ")
    module, _, values = rest.partition(" ")
    module = module.replace("-", "_")
    if command not in ("options", "blacklist", "install", "softdep", "alias") or not _DRIVER.match(module):
        return
    if module in _BUILT_IN:
        options = " ".join(f"{module}.{value}" for value in values.split()) if command == "options" else ""
        instead = f"; on the command line it would be {options}" if options else ""
        yield f"has no effect where {module} is built into the kernel, as distributions have it{instead}", False
        for _, why, takes in option_effects(options):
            yield f"there: {why}", takes
        return
    yield _MODPROBE[command].format(module=module), command in ("blacklist", "install")


_MODPROBE = {
    "options": "loads {module} with these parameters",
    "blacklist": "keeps {module} from being loaded for the devices it knows",
    "install": "runs a command instead of loading {module}",
    "softdep": "loads something before or after {module}",
    "alias": "makes {module} an alias",
}
