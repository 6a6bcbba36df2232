"""What an access to a device register means: completed, faulted or stalled, and by which witnesses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from testbed.actions.access_place import PROGRAM
from testbed.actions.attempt import trying
from testbed.actions.mmio import ACCESS_SECONDS, enable, probe, unbind
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
    from testbed.actions.attempt import Attempt, Probed
    from testbed.actions.register import Access
    from testbed.guest.bars import Owner
    from testbed.guest.task import Task
    from testbed.machine.stall_place import ExitLoop
    from testbed.model.mmio_record import Direction
    from testbed.scenarios.trial import Trial

#: guest seconds in which an access completes
ACCESS_PATIENCE = round(ACCESS_SECONDS)
#: exits at one place that are no accident
_MANY = 10
#: guest seconds a witness's access may take: it shares its CPU with a process that is held
_WITNESS_SECONDS = 15.0
#: what a kernel says of a CPU or a task that does not go on
LOCKUP = r"soft lockup|hard LOCKUP|detected stalls?|self-detected stall|blocked for more than"


@dataclass(frozen=True, kw_only=True)
class _Stuck:
    """What else is true while an access does not complete."""

    seen: int  #: accesses to the register that a device got
    task: Task | None
    kernel: Probed | None  #: the kernel's access to the same register; None where it can have none
    port: Probed


@dataclass(frozen=True, kw_only=True)
class _Witnesses:
    """Accesses that are made while the one in question does not complete, under the same model."""

    kernel: Access | None
    port: Access

    @property
    def accesses(self) -> list[Access]:
        return [*([self.kernel] if self.kernel else []), self.port]


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
    witnesses = _witnesses(owner, access)
    async with trying(guest, address, access, stall=stall, beside=witnesses.accesses) as attempt:
        trial.modelled = attempt.modelled
        trial.stimulus(f"{access} of {device.id}")
        await attempt.start()
        if await attempt.watch(trial.deadline):
            return _judge_ended(await attempt.end())
        if attempt.deaf:
            return _judge_kernel_held(await attempt.end())
        stuck = await _look(trial, attempt, witnesses)
        probed = await attempt.end()
    return _judge_stuck(trial, probed, stuck, log_position)


def _witnesses(owner: Owner, access: Access) -> _Witnesses:
    bar = owner.bar(access.bar) if access.bar is not None else None
    memory = bar is not None and bar.space is Space.MEMORY
    kernel = replace(access, route=Route.KERNEL) if memory and access.route is not Route.KERNEL else None
    return _Witnesses(kernel=kernel, port=port_access(owner))


async def _look(trial: Trial, attempt: Attempt, witnesses: _Witnesses) -> _Stuck:
    """Collect the witnesses while the access is under way: the task, the kernel's access, a port's."""
    seen = len(attempt.records)
    task = await find_task(trial.guest, PROGRAM)
    kernel = await _made(attempt.beside(witnesses.kernel)) if witnesses.kernel else None
    return _Stuck(seen=seen, task=task, kernel=kernel, port=await _made(attempt.beside(witnesses.port)))


async def _made(attempt: Attempt) -> Probed:
    await attempt.start()
    await attempt.watch(_WITNESS_SECONDS)
    return await attempt.end()


def _judge_ended(probed: Probed) -> Judgement:
    """Judge an access after which the process went on, or was ended by a signal."""
    access = probed.register.access
    if probed.modelled and not (probed.loop or probed.passage):
        raise BrokenError(f"{access}: the model stopped an access that was not made")
    findings = (_seen_finding(len(probed.seen), probed), *_loop_findings(probed), *_passage_findings(probed))
    if probed.timing is None:
        reason = f"the process was ended by {probed.fault} at the {access.direction}"
        ended = Finding(subject="process", expected="goes on", observed=probed.fault, evidence=probed.evidence)
        return Judgement(verdict=Verdict.BAD, outcome="faulted", reason=reason, findings=(ended, *findings))
    took = f"{probed.timing.max_ns / 1000:.1f} µs" if probed.loop is None else f"{probed.guest_seconds:.2f} guest s"
    held = f", held for {probed.loop.executions} executions before" if probed.loop else ""
    passed = f"; the model held nothing: {probed.passage.arrival.circumstances}" if probed.passage else ""
    process = Finding(subject="process", expected="goes on", observed=f"goes on after {took}", evidence=probed.evidence)
    return Judgement(
        verdict=Verdict.GOOD,
        outcome="completed",
        reason=f"completed in {took}{held}; value {probed.timing.last:#x}{'' if held else passed}",
        findings=(process, *findings),
        guest_seconds=probed.guest_seconds,
    )


def _judge_kernel_held(probed: Probed) -> Judgement:
    """Judge an access of the kernel's that was held: its CPU ran nothing else, so the guest was not asked."""
    loop = f": {probed.loop.where}, begun {probed.loop.executions} times" if probed.loop else ""
    return Judgement(
        verdict=Verdict.BAD,
        outcome="kernel-stalled",
        reason=f"the kernel's {probed.register.access.direction} did not complete{loop}",
        findings=(*_loop_findings(probed), _seen_finding(len(probed.seen), probed)),
    )


def _judge_stuck(trial: Trial, probed: Probed, stuck: _Stuck, log_position: int) -> Judgement:
    """Judge an access that did not complete: stalled if every witness agrees.

    Raises BrokenError if a signal ended the port's access, which then witnesses nothing: under an SVM that TCG
    emulates no process may access a port (docs/nested.md).
    """
    port = stuck.port
    if port.fault:
        raise BrokenError(f"{port.register.access}: ended by {port.fault}: no port's access to compare the stall with")
    loop = probed.loop
    against = _against(stuck, loop)
    begun = f": begun {loop.executions} times at {loop.where}, {loop.rate:.0f}/s" if loop else ""
    words = f"the {probed.register.access.direction} did not complete in {trial.deadline:g} guest s{begun}"
    return Judgement(
        verdict=Verdict.BAD,
        outcome="unfinished" if against else "stalled",
        reason=f"{words}; but {', '.join(against)}" if against else f"{words}; {_complete(stuck)}",
        findings=(
            *_loop_findings(probed),
            _seen_finding(stuck.seen, probed),
            *_state_findings(stuck, probed),
            _lockup_finding(trial, log_position),
        ),
        guest_seconds=trial.deadline,
    )


def _complete(stuck: _Stuck) -> str:
    return "the kernel's and a port's complete" if stuck.kernel else "a port's completes"


def _against(stuck: _Stuck, loop: ExitLoop | None) -> list[str]:
    """Return what speaks against a stall of this access alone."""
    contrary = {
        # without a model nobody stands at the instruction, so nobody can say that it is begun again and again
        "no exit loop was seen": loop is None or loop.executions < _MANY,
        "the device got the access": stuck.seen > 0,
        "the process is gone": stuck.task is None,
        "the kernel's access did not complete either": stuck.kernel is not None and not stuck.kernel.completed,
        "the device did not get the kernel's access": stuck.kernel is not None and not stuck.kernel.seen,
        "the port's access did not complete either": not stuck.port.completed,
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
    registers, circumstances = loop.arrival.registers, loop.arrival.circumstances
    times = f"{loop.executions} executions in {loop.wall_seconds:.1f} s, {loop.rate:.0f}/s"
    values = ", ".join(f"{name} {registers.values[name]:#x}" for name in ("rdi", "rsi", "cr3", "cr4"))
    return [
        Finding(
            subject="exit loop (modelled)",
            expected="one execution",
            observed=f"{loop.where}: {times}",
            evidence=loop.evidence,
        ),
        Finding(
            subject="vCPU at the access",
            expected="lets a hypervisor emulate it",
            observed=f"{circumstances}; {values}",
            evidence=loop.evidence,
        ),
    ]


def _passage_findings(probed: Probed) -> list[Finding]:
    """Say under which circumstances a model that stood at the access let it through."""
    passage = probed.passage
    if passage is None:
        return []
    observed = f"let {passage.count} through: {passage.arrival.circumstances}"
    subject, expected = "model at the access", "looks at the access"
    return [Finding(subject=subject, expected=expected, observed=observed, evidence=passage.evidence)]


def _state_findings(stuck: _Stuck, probed: Probed) -> list[Finding]:
    task = stuck.task
    evidence = task.evidence if task else probed.evidence
    findings = [Finding(subject="process", expected="goes on", observed=_process(task, probed), evidence=evidence)]
    if stuck.kernel is not None:
        findings.append(_witness_finding("kernel's access meanwhile", stuck.kernel))
    return [*findings, _witness_finding("port access meanwhile", stuck.port)]


def _process(task: Task | None, probed: Probed) -> str:
    """Return where the process is; its state is the guest's doing only where no model keeps it busy."""
    if task is None:
        return "gone"
    return f"pid {task.pid} not past its access" + ("" if probed.loop else f", in state {task.state}")


def _witness_finding(subject: str, probed: Probed) -> Finding:
    took = f"completed in {probed.timing.max_ns / 1000:.1f} µs" if probed.timing else "did not complete"
    passage = f"; {probed.passage.arrival.circumstances}" if probed.passage else ""
    got = f", the device got {len(probed.seen)}"
    return Finding(subject=subject, expected="completes", observed=f"{took}{got}{passage}", evidence=probed.evidence)


def _lockup_finding(trial: Trial, log_position: int) -> Finding:
    reports = trial.guest.shell.log.find(LOCKUP, after=log_position)
    return Finding(
        subject="kernel log",
        expected="no lockup",
        observed=reports[0].text if reports else "reports no lockup",
        evidence=reports[0].reference if reports else "kernel.log",
    )
