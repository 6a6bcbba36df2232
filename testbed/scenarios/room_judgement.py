"""What it means that a device which came got no room: its verdict, the kernel's words, the window, and the remedy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.machine.console import FILE as CONSOLE_FILE
from testbed.model.bar import size_option
from testbed.model.outcome import Finding, Judgement, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.guest.hotplug_control import HotplugControl
    from testbed.guest.room import Room, WantedBar
    from testbed.model.kernel_log import LogRecord
    from testbed.model.spec import MachineSpec
    from testbed.scenarios.trial import Trial

_NO_SPACE = r"{}: .*(?:can't assign; no space|no space for|failed to assign)"
_NO_BUS = r"No bus number available|devices behind bridge are unusable"
#: only these take room in advance
_RESERVING = ("pcie-root-port", "pcie-pci-bridge")
#: bus numbers for a bridge, what is behind it, and a second one
_BUSES = 4
_BUS_REMEDY = f"let the port keep some: -p port_properties=bus-reserve={_BUSES}"


def judge_room(trial: Trial, judgement: Judgement, room: Room, control: HotplugControl | None) -> Judgement:
    """Return a judgement with what room the device got: bad if a memory BAR, or a bridge's bus, has none."""
    findings = (*judgement.findings, *room.findings)
    if room.lacking:
        words = _log(trial, _NO_SPACE.format(re.escape(str(room.address))), control)
        reason = _no_room(trial.spec, room, words, control)
        return _bad(judgement, "no-room", reason, (*findings, *_said(words)))
    if room.is_bridge and not room.has_bus:
        reason, said = bus_number_words(trial) or ("no bus was made behind the bridge", ())
        return _bad(judgement, "no-bus", reason, (*findings, *said))
    return judgement.model_copy(update={"findings": findings})


def bus_number_words(trial: Trial) -> tuple[str, tuple[Finding, ...]] | None:
    """Return why a bridge got no bus number, with the remedy, and the kernel's words as findings; None if it did."""
    said = _said(_log(trial, _NO_BUS, None)) or _on_console(trial)
    if not said:
        return None
    first = said[0]
    return f"{first.observed} ({first.evidence}): its port has none to give; {_BUS_REMEDY}", tuple(said)


def _on_console(trial: Trial) -> list[Finding]:
    """Return the words from the console, where a guest that crashed has said its last ones."""
    lines = (trial.guest.machine.rundir / CONSOLE_FILE).read_text("utf-8", "replace").splitlines()
    found = [(number, line) for number, line in enumerate(lines, 1) if re.search(_NO_BUS, line)]
    return [_finding(line.partition("] ")[2].strip() or line, f"{CONSOLE_FILE}:{number}") for number, line in found]


def _no_room(spec: MachineSpec, room: Room, words: Sequence[LogRecord], control: HotplugControl | None) -> str:
    """Say which BAR has no address, what the kernel said, how large the window is, and what helps."""
    bar = max(room.lacking, key=lambda each: each.size)
    said = f": {_cited(words[:1])}" if words else ""
    window = f"; {room.window_words(bar)}" if room.port else ""
    remedies = _remedies(spec, bar, control)
    return f"{room.device_id} is there, and {bar} has no address{said}{window}" + (
        f"; remedy: {', or '.join(remedies)}" if remedies else ""
    )


def _remedies(spec: MachineSpec, bar: WantedBar, control: HotplugControl | None) -> list[str]:
    if control is None or control.place.port is None:
        return []
    found = []
    if spec.devices_of(*_RESERVING):
        option = "mem-reserve" if not bar.prefetchable else "pref64-reserve" if bar.wide else "pref32-reserve"
        # firmware aligns a window to less than a large BAR wants: twice its size has room for it wherever it begins
        found.append(f"-p port_properties={option}={size_option(2 * bar.size)}")
    if control.served_by == "acpiphp":
        found.append("native hot-plug, where Linux enlarges the window (-p hotplug=native)")
    return found


def _log(trial: Trial, pattern: str, control: HotplugControl | None) -> list[LogRecord]:
    return trial.guest.shell.log.find(pattern, after=control.log_position if control else -1)


def _cited(words: Sequence[LogRecord]) -> str:
    return "; ".join(f"{record.text} ({record.reference})" for record in words)


def _said(words: Sequence[LogRecord]) -> list[Finding]:
    return [_finding(each.text, each.reference) for each in words[-4:]]


def _finding(words: str, evidence: str) -> Finding:
    return Finding(subject="kernel log", expected="room for all", observed=words, evidence=evidence)


def _bad(judgement: Judgement, outcome: str, reason: str, findings: tuple[Finding, ...]) -> Judgement:
    return judgement.model_copy(
        update={"verdict": Verdict.BAD, "outcome": outcome, "reason": reason, "findings": findings}
    )
