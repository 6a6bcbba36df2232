"""What an access to a device register means: completed, faulted or stalled, and by which witnesses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from testbed.actions.mmio import ACCESS_SECONDS, PROGRAM, complete, enable, probe, trying, unbind
from testbed.actions.register import Route
from testbed.guest.bars import read_owner
from testbed.guest.pci import address_of
from testbed.guest.task import find_task
from testbed.model.bar import Space
from testbed.model.errors import BrokenError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.stall import parse_stall
from testbed.scenarios.mmio_choice import chosen_access, chosen_device, port_access

if TYPE_CHECKING:
    from testbed.actions.mmio import Attempt, Probed, Timing
    from testbed.guest.bars import Owner
    from testbed.guest.task import Task
    from testbed.machine.stall import ExitLoop
    from testbed.model.mmio_record import Direction
    from testbed.scenarios.trial import Trial

#: exits at one place that are no accident
_MANY = 10
#: what a kernel says of a CPU or a task that does not go on
LOCKUP = r"soft lockup|hard LOCKUP|detected stalls?|self-detected stall|blocked for more than"


@dataclass(frozen=True, kw_only=True)
class _Stuck:
    """What else is true while an access does not complete."""

    seen: int  #: accesses to the register that a device got
    task: Task | None
    kernel: Timing | None  #: the kernel's access to the same register; None where the BAR has no memory
    kernel_evidence: str
    kernel_seen: int  #: accesses that a device got by it
    port: Timing
    port_evidence: str


async def judge_access(trial: Trial, direction: Direction) -> Judgement:
    """Prove the register by the kernel's own access, then ask for the access and judge it."""
    guest = trial.guest
    stall = parse_stall(trial.options["stall"])
    device = chosen_device(trial.spec, trial.options)
    address = await address_of(guest.machine, device.id)
    await unbind(guest, address)
    await enable(guest, address)
    owner = await read_owner(guest, address)
    if owner is None:
        raise BrokenError(f"starting state: the guest has no function {address}")
    access = chosen_access(device, owner, direction, trial.options)
    log_position = guest.shell.log.latest
    proof = await probe(guest, address, replace(access, route=Route.KERNEL))
    if not (proof.completed and proof.seen):
        raise BrokenError(f"starting state: the device does not get the kernel's {access.width}-byte {direction}")
    trial.modelled = stall.words
    async with trying(guest, address, access, stall=stall) as attempt:
        trial.stimulus(f"{access} of {device.id}")
        await attempt.start()
        if await attempt.watch(ACCESS_SECONDS):
            return _judge_ended(await attempt.end())
        stuck = await _look(trial, attempt, owner)
        probed = await attempt.end()
    return _judge_stuck(trial, probed, stuck, log_position)


async def _look(trial: Trial, attempt: Attempt, owner: Owner) -> _Stuck:
    """Collect the witnesses while the access is under way: the task, the kernel's access, a port's."""
    seen = len(attempt.records)
    task = await find_task(trial.guest, PROGRAM)
    access = attempt.register.access
    kernel, kernel_evidence = None, ""
    if attempt.register.space is Space.MEMORY:
        kernel, kernel_evidence = await complete(trial.guest, owner.address, replace(access, route=Route.KERNEL))
    port, port_evidence = await complete(trial.guest, owner.address, port_access(owner))
    return _Stuck(
        seen=seen,
        task=task,
        kernel=kernel,
        kernel_evidence=kernel_evidence,
        kernel_seen=len(attempt.records) - seen,
        port=port,
        port_evidence=port_evidence,
    )


def _judge_ended(probed: Probed) -> Judgement:
    """Judge an access after which the process went on, or was ended by a signal."""
    access = probed.register.access
    seen = _seen_finding(len(probed.seen), probed)
    findings: tuple[Finding, ...] = (seen, *_loop_findings(probed))
    if probed.timing is None:
        reason = f"the process was ended by {probed.fault} at the {access.direction}"
        ended = Finding(subject="process", expected="goes on", observed=probed.fault, evidence=probed.evidence)
        return Judgement(verdict=Verdict.BAD, outcome="faulted", reason=reason, findings=(ended, *findings))
    took = f"{probed.timing.max_ns / 1000:.1f} µs" if probed.loop is None else f"{probed.guest_seconds:.2f} guest s"
    held = f", held for {probed.loop.executions} executions before" if probed.loop else ""
    process = Finding(subject="process", expected="goes on", observed=f"goes on after {took}", evidence=probed.evidence)
    return Judgement(
        verdict=Verdict.GOOD,
        outcome="completed",
        reason=f"completed in {took}{held}; value {probed.timing.last:#x}",
        findings=(process, *findings),
        guest_seconds=probed.guest_seconds,
    )


def _judge_stuck(trial: Trial, probed: Probed, stuck: _Stuck, log_position: int) -> Judgement:
    """Judge an access that did not complete: stalled if every witness agrees."""
    loop = probed.loop
    against = _against(stuck, loop)
    where = f"rip {loop.rip:#x}, gpa {loop.gpa or 0:#x}" if loop else ""
    begun = f": begun {loop.executions} times at {where}, {loop.rate:.0f}/s" if loop else ""
    words = f"the {probed.register.access.direction} did not complete in {ACCESS_SECONDS:g} guest s{begun}"
    return Judgement(
        verdict=Verdict.BAD,
        outcome="unfinished" if against else "stalled",
        reason=f"{words}; but {', '.join(against)}" if against else f"{words}; the kernel's and a port's complete",
        findings=(
            *_loop_findings(probed),
            _seen_finding(stuck.seen, probed),
            *_state_findings(stuck, probed),
            _lockup_finding(trial, log_position),
        ),
        guest_seconds=ACCESS_SECONDS,
    )


def _against(stuck: _Stuck, loop: ExitLoop | None) -> list[str]:
    """Return what speaks against a stall."""
    task = stuck.task
    contrary = {
        # without a model nobody stands at the instruction, so nobody can say that it is begun again and again
        "no exit loop was seen": loop is None or loop.executions < _MANY,
        "the device got the access": stuck.seen > 0,
        f"the process is in state {task.state}" if task else "the process is gone": task is None or task.state != "R",
        "the device did not get the kernel's access": stuck.kernel is not None and not stuck.kernel_seen,
    }
    return [words for words, true in contrary.items() if true]


def _seen_finding(count: int, probed: Probed) -> Finding:
    evidence = probed.seen_evidence[0] if probed.seen_evidence and count else "mmio.jsonl"
    first = f", the first: {probed.seen[0]}" if count else ""
    return Finding(
        subject="device (QEMU's trace)", expected="gets the access", observed=f"got {count}{first}", evidence=evidence
    )


def _loop_findings(probed: Probed) -> list[Finding]:
    loop = probed.loop
    if loop is None:
        return []
    registers = loop.registers
    place = f"vCPU {loop.vcpu} rip {loop.rip:#x} gpa {loop.gpa or 0:#x}"
    state = ", ".join(f"{name} {registers.values[name]:#x}" for name in ("rdi", "rsi", "cr3", "cr4"))
    return [
        Finding(
            subject="exit loop (modelled)",
            expected="one execution",
            observed=f"{place}: {loop.executions} executions in {loop.wall_seconds:.1f} s, {loop.rate:.0f}/s",
            evidence=loop.evidence,
        ),
        Finding(
            subject="registers",
            expected="those of the access",
            observed=f"CPL {registers.cpl}, SMAP {'on' if registers.smap else 'off'}, {state}",
            evidence=loop.evidence,
        ),
    ]


def _state_findings(stuck: _Stuck, probed: Probed) -> list[Finding]:
    task = stuck.task
    running = f"pid {task.pid} in state {task.state}, {task.user_seconds:.2f} s user" if task else "gone"
    evidence = task.evidence if task else probed.evidence
    findings = [Finding(subject="process", expected="goes on", observed=running, evidence=evidence)]
    if stuck.kernel is not None:
        observed = f"completed in {stuck.kernel.max_ns / 1000:.1f} µs, the device got {stuck.kernel_seen}"
        subject, where = "kernel's access meanwhile", stuck.kernel_evidence
        findings.append(Finding(subject=subject, expected="completes", observed=observed, evidence=where))
    observed = f"completed in {stuck.port.max_ns / 1000:.1f} µs"
    subject = "port access meanwhile"
    return [*findings, Finding(subject=subject, expected="completes", observed=observed, evidence=stuck.port_evidence)]


def _lockup_finding(trial: Trial, log_position: int) -> Finding:
    told = trial.guest.shell.log.find(LOCKUP, after=log_position)
    return Finding(
        subject="kernel log",
        expected="no lockup",
        observed=told[0].text if told else "says nothing of a lockup",
        evidence=told[0].reference if told else "kernel.log",
    )
