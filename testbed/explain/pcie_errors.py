"""The PCIe errors that a log tells of: counted and named, with what became of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.explain.service import CITED, counted
from testbed.explain.statement import Statement
from testbed.model.aer import ErrorSeverity
from testbed.model.aer_tally import tally_errors
from testbed.model.recovery import RecoveryState, read_recoveries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.explain.evidence import Evidence
    from testbed.explain.kernel_log import BootLog
    from testbed.model.aer_tally import ErrorCount
    from testbed.model.recovery import Recovery

_SEVERITIES = {
    ErrorSeverity.CORRECTABLE: "corrected",
    ErrorSeverity.NON_FATAL: "uncorrected (non-fatal)",
    ErrorSeverity.FATAL: "uncorrected (fatal)",
}
#: what ends a recovery that no announcement begins: DPC's, or of an excerpt
_END = re.compile(r"(\S{1,30}): AER: [dD]evice recovery (successful|failed)")
#: functions and recoveries that are listed one by one
_SHOWN = 6


def pcie_errors(evidence: Evidence) -> Iterator[Statement]:
    """Yield the errors of each function, the links that were cut off, and the recoveries."""
    if evidence.log is None:
        return
    errors = sorted(evidence.errors.errors, key=lambda each: -each.reports)
    for each in errors[:_SHOWN]:
        yield _errors(evidence.log, each)
    if len(errors) > _SHOWN:
        rest = errors[_SHOWN:]
        text = f"{counted(sum(each.reports for each in rest), 'report')} more, of {counted(len(rest), 'function')}"
        yield Statement(text=text, evidence=(rest[0].first.reference,), suspicious=True)
    for cut in evidence.errors.containments[:_SHOWN]:
        times = counted(cut.events, "time")
        text = f"{cut.port}: DPC took its link down {times} after an error (DPC Status {cut.status} the last time)"
        yield Statement(text=text, evidence=(cut.last.reference,), suspicious=True)
    if evidence.errors.injected:
        text = f"{counted(len(evidence.errors.injected), 'error')} of these came from aer_inject, on purpose"
        places = tuple(record.reference for record in evidence.errors.injected[:CITED])
        yield Statement(text=text, evidence=places)
    yield from _recoveries(evidence.log)
    yield from _earlier(evidence.log)


def _earlier(log: BootLog) -> Iterator[Statement]:
    """Report errors before the boot that is explained: a reboot makes no link better."""
    errors = tally_errors(log.earlier).errors
    if errors:
        functions = list(dict.fromkeys(str(each.device) for each in errors))
        named = ", ".join(functions[:CITED]) + (f" and {len(functions) - CITED} more" if len(functions) > CITED else "")
        text = f"before the last boot: {counted(sum(each.reports for each in errors), 'report')} of errors at {named}"
        yield Statement(text=text, evidence=(errors[0].first.reference, errors[-1].last.reference), suspicious=True)


def _errors(log: BootLog, error: ErrorCount) -> Statement:
    names = f": {' '.join(error.names)}" if error.names else ""
    layer = f", {error.layer.lower()}" if error.layer else ""
    ports = f"; {', '.join(map(str, error.ports[:CITED]))} announced them" if error.ports else ""
    firmware = "; the firmware saw them first and reported them (APEI)" if error.by_firmware else ""
    text = (
        f"{counted(error.reports, 'report')} of {_SEVERITIES[error.severity]} errors at {error.device}{names}{layer}"
        f"{ports}{firmware}{_when(log, error)}"
    )
    places = dict.fromkeys((error.first.reference, error.last.reference))
    return Statement(text=text, evidence=tuple(places), suspicious=True)


def _when(log: BootLog, error: ErrorCount) -> str:
    first, last = (log.stamps.get(record.line, "") for record in (error.first, error.last))
    if not first or error.reports == 1:
        return ""
    return f", from {first} to {last}"


def _recoveries(log: BootLog) -> Iterator[Statement]:
    """Report how recoveries ended, each kind once: where, from what, and by whose doing it failed."""
    found = read_recoveries(log.records)
    alike: dict[tuple[str, ...], list[Recovery]] = {}
    for each in found.recoveries:
        alike.setdefault((str(each.port), str(each.source), each.severity, each.state), []).append(each)
    for same in list(alike.values())[:_SHOWN]:
        yield _recovery(same)
    ends = [(match, record) for record in found.unplaced if (match := _END.search(record.text))]
    for outcome in ("successful", "failed"):
        records = [record for match, record in ends if match[2] == outcome]
        if records:
            places = tuple(record.reference for record in records[:CITED])
            text = f"{counted(len(records), 'recovery')} whose beginning is not in the log: {outcome}"
            yield Statement(
                text=text.replace("recoverys", "recoveries"), evidence=places, suspicious=outcome == "failed"
            )


def _recovery(same: Sequence[Recovery]) -> Statement:
    first = same[0]
    often = f", {len(same)} times" if len(same) > 1 else ""
    vetoes = dict.fromkeys(f"{veto.device} {veto.reason}" for each in same for veto in each.vetoes)
    because = f"; {', '.join(list(vetoes)[:CITED])}" if vetoes else ""
    end = f"recovery {first.state}" if first.ended else "the log does not say how the recovery ended"
    text = f"{_SEVERITIES[first.severity]} error at {first.source} below {first.port}: {end}{often} ({first}){because}"
    places = tuple(dict.fromkeys((first.path[0].record.reference, first.path[-1].record.reference)))
    return Statement(text=text, evidence=places, suspicious=first.state is RecoveryState.FAILED)
