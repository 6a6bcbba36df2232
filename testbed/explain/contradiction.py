"""Where a customer's files contradict each other: they are then not of one boot, or not of one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.explain.holder import Holder
from testbed.explain.service import MAIN, look
from testbed.explain.statement import Statement
from testbed.model.cmdline import CommandLine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.explain.evidence import Evidence
    from testbed.explain.holder import Control

#: a message of the kernel's ends about here (LOG_LINE_MAX, 1024 less its prefix): a longer command line is cut off
_CUT = 900


def contradictions(evidence: Evidence, controls: Sequence[Control]) -> tuple[Statement, ...]:
    """Return what cannot be true of one boot of one machine."""
    return (*_cmdlines(evidence), *_machines(evidence), *_services(evidence, controls))


def _cmdlines(evidence: Evidence) -> Iterator[Statement]:
    if evidence.proc_cmdline is None or evidence.log is None:
        return
    logged, at = evidence.log.cmdline
    booted = evidence.proc_cmdline.text.strip()
    if not at or logged == booted or (len(logged) >= _CUT and booted.startswith(logged)):
        return
    here, there = CommandLine(booted).words, CommandLine(logged).words
    sides = [
        f"only {name} has {' '.join(only)}"
        for name, only in (("/proc/cmdline", _only(here, there)), ("the log", _only(there, here)))
        if only
    ]
    text = f"/proc/cmdline is not the command line of the boot in the log: {'; '.join(sides) or 'the order differs'}"
    yield Statement(text=text, evidence=(evidence.proc_cmdline.reference, at), suspicious=True)


def _only(these: Sequence[str], others: Sequence[str]) -> list[str]:
    known = set(others)
    return [word for word in these if word not in known]


def _machines(evidence: Evidence) -> Iterator[Statement]:
    if evidence.pci is None or not evidence.pci.machine or not evidence.machine_in_log or evidence.log is None:
        return
    if evidence.pci.machine != evidence.machine_in_log:
        places = (evidence.pci.functions[0].reference, evidence.log.hardware[1])
        text = f"lspci is from {evidence.pci.machine}, the log from {evidence.machine_in_log}: two machines"
        yield Statement(text=text, evidence=places, suspicious=True)


def _services(evidence: Evidence, controls: Sequence[Control]) -> Iterator[Statement]:
    """Report services that run where Linux has no control, and of those that run by one file and not by another."""
    for service in MAIN:
        # a domain of VMD's is no host bridge of ACPI's: what runs there says nothing of `_OSC`
        signs = look(service, evidence, evidence.is_below_acpi if evidence.bridges else None)
        holders = {control.holder for control in controls if control.service == service.name} - {Holder.UNKNOWN}
        if not holders:
            continue
        if signs.running and Holder.LINUX not in holders:
            text = f"{service.name}: the log says that Linux has no control, yet {' and '.join(signs.running)}"
            yield Statement(text=text, evidence=signs.running_at, suspicious=True)
        elif signs.running and signs.absent:
            text = f"{service.name}: {' and '.join(signs.running)}, yet {' and '.join(signs.absent)}"
            yield Statement(text=text, evidence=(*signs.running_at, *signs.absent_at), suspicious=True)
