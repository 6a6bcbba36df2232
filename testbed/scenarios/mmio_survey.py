"""Scenario mmio-survey: what every BAR reads as, as facts that `testbed compare` can compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.mmio_survey import ROUTES, survey
from testbed.guest.drivers import load_drivers
from testbed.guest.facts import add_facts
from testbed.guest.pci import addresses
from testbed.model.errors import BrokenError
from testbed.model.fact import Fact, FactKind
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.scenario import scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from testbed.actions.mmio_survey import Read, SurveyRow
    from testbed.scenarios.trial import Trial

OPTIONS = {
    "offset": Parameter(type="int", default=0, min=0, doc="further offsets in every BAR"),
    "drivers": Parameter(type="bool", default=False, doc="load the drivers of all devices first"),
}
#: reads of each register: enough to see one that counts
_COUNT = 3


@scenario(options=OPTIONS)
async def mmio_survey(trial: Trial) -> Judgement:
    """Can every register at the start of a BAR be read, by a process and by the kernel? (compare: what it reads as)."""
    guest = trial.guest
    if trial.options["drivers"]:
        await load_drivers(guest)
    names = {str(address): device for device, address in (await addresses(guest.machine)).items()}
    trial.stimulus("a read of every BAR of every function in each width")
    offsets = sorted({0, trial.options["offset"]})
    rows = await survey(guest, offsets=offsets, count=_COUNT, progress=trial.progress)
    if not rows:
        raise BrokenError("survey: no function of the guest has a BAR with an address")
    add_facts(guest.machine.rundir, register_facts(rows, names))
    reads = [read for row in rows for read in (row.user, row.kernel)]
    faults = [read for read in reads if read.timing is None and "ended by" in read.fault]
    refused = sum(read.timing is None for read in reads) - len(faults)
    counts = f"{len(reads)} reads: {len(reads) - refused - len(faults)} completed, {refused} refused by the kernel"
    return Judgement(
        verdict=Verdict.BAD if faults else Verdict.GOOD,
        outcome="faulted" if faults else "surveyed",
        reason=f"{counts}, {len(faults)} faulted",
        findings=tuple(_finding(row, names) for row in rows),
    )


def register_facts(rows: Sequence[SurveyRow], names: Mapping[str, str]) -> Iterator[Fact]:
    """Yield which registers there are and what they read as; their addresses differ from machine to machine."""
    registers: set[str] = set()
    for row in rows:
        subject = _register(row, names)
        if subject not in registers:
            registers.add(subject)
            size = f"in {row.bar.size:#x} bytes"
            yield Fact(kind=FactKind.REGISTER, subject=subject, value=size, evidence=row.user.evidence)
        for route, read in _reads(row):
            aspect = f"{row.width} bytes by {route}"
            yield Fact(kind=FactKind.REGISTER, subject=subject, aspect=aspect, value=read.words, evidence=read.evidence)


def _finding(row: SurveyRow, names: Mapping[str, str]) -> Finding:
    observed = ", ".join(f"by {route} {read.words}" for route, read in _reads(row))
    subject = f"{_register(row, names)}, {row.width} bytes"
    return Finding(subject=subject, expected="reads complete", observed=observed, evidence=row.user.evidence)


def _reads(row: SurveyRow) -> list[tuple[str, Read]]:
    return [(str(route), read) for route, read in zip(ROUTES[row.bar.space], (row.user, row.kernel), strict=True)]


def _register(row: SurveyRow, names: Mapping[str, str]) -> str:
    address = str(row.owner.address)
    return f"{names.get(address, address)} BAR {row.bar.index} ({row.bar.space}) + {row.offset:#x}"
