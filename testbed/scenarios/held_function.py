"""A host's request to get a function back that somebody has through VFIO: whether it returns, and what helps.

Source: vfio_unregister_group_dev() in drivers/vfio/vfio_main.c waits for the holder without end, with the locks of the
request held; sriov_numvfs_show() in drivers/pci/iov.c takes the PF's lock since Linux 5.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.vfio_holder import ended_within, openers
from testbed.guest.lock_owner import find_owner
from testbed.guest.task import standing_tasks
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from testbed.actions.passthrough import Bound
    from testbed.guest.guest import Guest
    from testbed.guest.shell import Command
    from testbed.model.errors import Standing
    from testbed.model.pci import Bdf
    from testbed.scenarios.trial import Trial

#: the host's command for each request
_COMMANDS = {
    "disable": "echo 0 > {pf}/sriov_numvfs",
    "unbind": "echo {vf} > {vf_folder}/driver/unbind",
    "unbind-pf": "echo {pf_name} > {pf}/driver/unbind",
    "remove-pf": "echo 1 > {pf}/remove",
}
REQUEST = Parameter(
    type="str",
    default="disable",
    choices=list(_COMMANDS),
    doc="what the host asks: no more VFs, the VF or its PF off its driver, the PF removed",
)
SECONDS = Parameter(
    type="int", default=12, min=1, max=600, doc="guest seconds after which a request that has not returned is blocked"
)
SIGNAL = Parameter(
    type="bool", default=False, doc="whether the blocked request is killed before anything else is tried"
)
#: where a request waits for the holder, and a reader of sriov_numvfs for the PF's lock
_WAITS, _READS = "vfio_unregister_group_dev", "sriov_numvfs_show"
_RETURNS = "returns"
_KERNEL = "^vfio-pci |VFIO"


@dataclass(frozen=True, kw_only=True)
class WayOut:
    """What makes the holder let go."""

    name: str
    take: Callable[[], Awaitable[object]]


async def judge_request(trial: Trial, pf: Bdf, held: Bound, way_out: WayOut) -> Judgement:
    """Make the request, beside it a reader of sriov_numvfs; where it blocks, say where, for whom, and what helps."""
    guest = trial.guest
    names = {"pf": pf.sysfs, "pf_name": pf, "vf": held.bdf, "vf_folder": held.bdf.sysfs}
    line = _COMMANDS[trial.options["request"]].format(**names)
    await guest.shell.catch_up()
    position = guest.shell.log.latest
    trial.stimulus(line)
    guest.machine.journal.step("guest", line)
    request = await guest.shell.start(line)
    await ended_within(guest, request, 1.0)
    reader = await guest.shell.start(f"exec cat {pf.sysfs}/sriov_numvfs")
    if await ended_within(guest, request, trial.deadline):
        return await _returned(request)
    findings = [
        _finding("the request", _RETURNS, "does not return", "shell.jsonl"),
        *await _standing(guest),
        _finding("the reader of sriov_numvfs", _RETURNS, _RETURNS if reader.ended else "does not return"),
    ]
    who = await openers(guest, held.group)
    findings.append(_finding("who has its group open", "nobody", who.names, who.evidence))
    if trial.options["signal"]:
        await request.kill()
        killed = await ended_within(guest, request, trial.deadline)
        findings.append(_finding("the request, killed", "ends", "ends" if killed else "goes on"))
    findings += await _words(guest, position)
    trial.progress(way_out.name)
    await way_out.take()
    over = [await ended_within(guest, each, trial.deadline) for each in (request, reader)]
    rows = zip(("the request", "the reader"), over, strict=True)
    findings += [
        _finding(f"{name}, after: {way_out.name}", "returned", "returned" if ended else "still blocked")
        for name, ended in rows
    ]
    helped = f"after {way_out.name} it returned" if all(over) else f"{way_out.name} does not help"
    return Judgement(
        verdict=Verdict.BAD,
        outcome="blocked" if all(over) else "deadlocked",
        reason=f"{line!r} does not return while {who.names} has {held.bdf}; {helped}",
        findings=tuple(findings),
        guest_seconds=trial.deadline,
    )


async def _returned(request: Command) -> Judgement:
    result = await request.wait()
    seconds = result.ended - result.started
    observed = f"{_RETURNS} after {seconds:.1f} s" if result.status == 0 else result.error
    return Judgement(
        verdict=Verdict.BAD if result.status else Verdict.GOOD,
        outcome="refused" if result.status else "let-go",
        reason=f"{result.command!r} {observed}",
        findings=(_finding("the request", _RETURNS, observed, result.evidence),),
        guest_seconds=round(seconds, 3),
    )


async def _standing(guest: Guest) -> list[Finding]:
    """Say where the request and the reader stand, and which process likely holds what the reader waits for."""
    tasks = await standing_tasks(guest.shell)
    findings = []
    for subject, function in (("where the request stands", _WAITS), ("where the reader stands", _READS)):
        found = [(pid, each) for pid, each in tasks.items() if function in each.stack]
        if not found:
            findings.append(_finding(subject, "nowhere", "not found"))
            continue
        pid, task = found[0]
        stack = " < ".join(task.stack)
        findings.append(_finding(subject, "nowhere", f"{task.task}: {stack}", task.evidence))
        if function == _READS and (owner := await find_owner(guest.shell, pid, task.stack)):
            findings.append(_owner(owner))
    return findings


def _owner(owner: Standing) -> Finding:
    return _finding("what the reader waits for", "nobody's", f"{owner.task} and {owner.holds}", owner.evidence)


async def _words(guest: Guest, position: int) -> list[Finding]:
    await guest.shell.catch_up()
    said = {record.text: record.reference for record in guest.shell.log.find(_KERNEL, after=position)}
    return [_finding("the kernel", "nothing", text, reference) for text, reference in said.items()]


def _finding(subject: str, expected: str, observed: str, evidence: str = "shell.jsonl") -> Finding:
    return Finding(subject=subject, expected=expected, observed=observed, evidence=evidence)
