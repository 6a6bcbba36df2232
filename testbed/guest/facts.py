"""The facts of a guest and its machine, collected before anything is asked of them, and left in `facts.json`.

Two verbs of the guest's init and one look at QEMU's tree: some tenths of a second, which only `testbed compare` spends.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from testbed.explain.control import controls
from testbed.explain.evidence import Evidence
from testbed.explain.interrupts import parse_interrupts
from testbed.explain.kernel_log import BootLog
from testbed.guest.files import show
from testbed.guest.pci import addresses
from testbed.guest.pci_facts import PATTERNS, pci_facts
from testbed.machine.qtree import read_tree
from testbed.model.cmdline import CommandLine
from testbed.model.fact import FACTS_FILE, Fact, FactKind, Facts
from testbed.model.log_text import is_by_chance, normalised
from testbed.model.osc import read_bridges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from testbed.explain.interrupts import Interrupts
    from testbed.guest.files import Shown
    from testbed.guest.guest import Guest
    from testbed.machine.qtree import Tree
    from testbed.model.kernel_log import LogRecord
    from testbed.model.osc import OscNegotiation

_INTERRUPTS = "/proc/interrupts"
#: chip, hardware number and trigger, actions: `PCI-MSI 32768-edge PCIe PME, aerdrv`; 6.12 puts a function into the chip
_SOURCE = re.compile(r"(\S{1,40}) {1,8}(?:[0-9]{1,10}-)?(edge|level|fasteoi) {1,8}(.{1,400})")
_CHIP_FUNCTION = re.compile(r"-[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
_OSC_LISTS = {
    "OS supports": "supports",
    "OS requested": "requested",
    "OS now controls": "controls",
    "platform does not support": "platform_lacks",
}


async def save_facts(guest: Guest) -> None:
    """Collect the facts and write them into the rundir."""
    facts = await collect_facts(guest)
    (guest.machine.rundir / FACTS_FILE).write_bytes(Facts.dump_json(facts, indent=1) + b"\n")


def add_facts(rundir: Path, facts: Iterable[Fact]) -> None:
    """Write further facts into the rundir, behind those that are there."""
    path = rundir / FACTS_FILE
    there = Facts.validate_json(path.read_bytes()) if path.exists() else ()
    path.write_bytes(Facts.dump_json((*there, *facts), indent=1) + b"\n")


async def collect_facts(guest: Guest) -> tuple[Fact, ...]:
    """Return every fact; the guest is stopped meanwhile, or warped time would race on while QEMU is asked."""
    shown = await show(guest, _INTERRUPTS, *PATTERNS)
    await guest.shell.catch_up()
    qmp = guest.machine.qmp
    await qmp.execute_unrepeated("stop")
    try:
        names = {str(address): device for device, address in (await addresses(guest.machine)).items()}
        tree = await read_tree(guest.machine)
    finally:
        await qmp.execute_unrepeated("cont")
    interrupts = _interrupts(shown)
    return (
        *control_facts(guest.hello.cmdline, guest.shell.log.records, interrupts),
        *interrupt_facts(interrupts),
        *pci_facts(shown, names),
        *tree_facts(tree),
        *log_facts(guest.shell.log.records),
    )


def _interrupts(shown: Shown) -> Interrupts:
    lines = shown.files.get(_INTERRUPTS, b"").decode("utf-8", "replace").splitlines()
    return parse_interrupts(((line, shown.evidence) for line in lines), whole=True, span=shown.evidence)


def control_facts(cmdline: str, records: Iterable[LogRecord], interrupts: Interrupts) -> Iterator[Fact]:
    """Yield who has which service, and what `_OSC` said of each host bridge."""
    log = BootLog(records=tuple(records))
    bridges = read_bridges(log.records)
    evidence = Evidence(
        cmdline=CommandLine(cmdline), cmdline_at=log.cmdline[1], log=log, bridges=bridges, interrupts=interrupts
    )
    many = len(bridges) > 1
    for control in controls(evidence):
        who = f"{control.holder} ({control.driver})" if control.driver else str(control.holder)
        below = f" below {control.bridge}" if many else ""
        cited = control.evidence[0] if control.evidence else interrupts.span
        yield Fact(kind=FactKind.CONTROL, subject=f"{control.service}{below}", value=who, evidence=cited)
    for bridge in bridges:
        yield from _osc_facts(bridge, f"_OSC of {bridge.bridge}" if many else "_OSC")


def _osc_facts(osc: OscNegotiation, subject: str) -> Iterator[Fact]:
    for aspect, name in _OSC_LISTS.items():
        features: tuple[str, ...] | None = getattr(osc, name)
        if features:
            cited = osc.where(name)[0]
            yield Fact(kind=FactKind.CONTROL, subject=subject, aspect=aspect, value=" ".join(features), evidence=cited)


def interrupt_facts(interrupts: Interrupts) -> Iterator[Fact]:
    """Yield each source: an action with the chips its lines are on, or a row without a number."""
    lines: Counter[tuple[str, str]] = Counter()
    for row in interrupts.rows:
        match = _SOURCE.fullmatch(row.handlers)
        if match:
            chip = _CHIP_FUNCTION.sub("", match[1])
            lines.update((action.strip(), f"{chip} {match[2]}") for action in match[3].split(","))
        else:
            lines[row.name, row.handlers or "there"] += 1
    chips: dict[str, list[str]] = {}
    for (source, chip), count in sorted(lines.items()):
        chips.setdefault(source, []).append(f"{count} lines, {chip}" if count > 1 else chip)
    for source, texts in chips.items():
        yield Fact(kind=FactKind.INTERRUPT, subject=source, value="; ".join(texts), evidence=interrupts.span)


def tree_facts(tree: Tree) -> Iterator[Fact]:
    """Yield each device of QEMU's, and its properties; those without an id are told apart by their order."""
    common = {"kind": FactKind.QEMU, "evidence": tree.evidence}
    yield Fact(**common, subject="machine type", value=tree.machine_type)
    numbers: Counter[str] = Counter()
    for device in tree.devices:
        numbers[device.driver] += 1
        number = numbers[device.driver]
        name = device.id or (f"{device.driver} #{number}" if number > 1 else device.driver)
        place = f"{device.driver} on {device.bus}"
        yield Fact(**common, subject=name, value=place)
        for key, value in device.properties.items():
            yield Fact(**common, subject=name, aspect=key, value=value)


def log_facts(records: Iterable[LogRecord]) -> Iterator[Fact]:
    """Yield each thing the kernel has said, once."""
    first: dict[str, str] = {}
    for record in records:
        text = normalised(record.text)
        if text and not is_by_chance(text):
            first.setdefault(text, record.reference)
    for text, reference in first.items():
        yield Fact(kind=FactKind.LOG, subject=text, value="logged", evidence=reference)
