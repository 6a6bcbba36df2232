"""Scenario mmio-device-answers: a device of the test bed's own, whose answers are late or never come."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from testbed.actions.access_place import PROGRAM
from testbed.actions.attempt import trying
from testbed.actions.mmio import complete, enable, keep_to_first_cpu
from testbed.actions.register import Access, Route
from testbed.guest.pci import address_of
from testbed.guest.task import find_task
from testbed.machine.withholding import withholding
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.model.kernel_log import Crash
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.model.stall import StallKind, parse_stall
from testbed.scenarios.mmio_choice import StallOption
from testbed.scenarios.mmio_judgement import LOCKUP
from testbed.scenarios.scenario import scenario
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from testbed.actions.attempt import Attempt, Probed
    from testbed.guest.guest import Guest
    from testbed.machine.withholding import Withholder
    from testbed.model.errors import GuestCrashedError
    from testbed.model.pci import Bdf
    from testbed.scenarios.trial import Trial


class WithholdOption(StallOption):
    """A model that a device can follow: it sees no privilege level."""

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        wrong = super().problem(value)
        if not wrong and parse_stall(value).kind is StallKind.SMAP_ERRATUM:
            return "a device cannot tell who makes an access; scenario mmio-write-completes models that"
        return wrong


OPTIONS = {
    "stall": WithholdOption(
        type="str",
        default="always",
        doc="which accesses the device leaves unanswered: always, after:N, for:SECONDS (it answers that late), off; "
        ":read or :write behind it for one direction",
    ),
    "access": Parameter(type="str", default="user", choices=["user", "kernel"], doc="who makes the access"),
    "direction": Parameter(type="str", default="write", choices=["read", "write"], doc="of the access"),
    "seconds": Parameter(
        type="int",
        default=8,
        min=1,
        max=15,
        doc="guest seconds to watch, beyond those of for:SECONDS; from 21 on the kernel reports a stall",
    ),
}

#: the CPU that makes the access; the others tell of it
_CPU = 1
_OFFSET, _VALUE = 0x14, 1
#: how long Linux lets a CPU stand still: twice kernel.watchdog_thresh. A later answer is too late, reported or not
_LOCKUP_SECONDS = 20
#: wall seconds in which the kernel reports a CPU that does not go on: RCU does after 21 guest s
_REPORT_SECONDS = 90.0
#: guest seconds in which a killed process is gone, and the messages of a CPU that goes on are there
_SETTLE_SECONDS = 2.0
_TOLERATED = (Crash.LOCKUP, Crash.RCU_STALL, Crash.HUNG_TASK)


@dataclass(frozen=True, kw_only=True)
class _Ticks:
    """Local timer interrupts so far, by CPU."""

    counts: tuple[int, ...]
    evidence: str


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What is true while the device does not answer."""

    status: str  #: of QEMU
    status_evidence: str
    ticks: tuple[_Ticks, _Ticks]
    state: str  #: of the process, after it was killed
    state_evidence: str


@scenario(options=OPTIONS)
async def mmio_device_answers(trial: Trial) -> Judgement:
    """Does the guest carry on when a device answers a register access late, or never?"""
    guest = trial.guest
    _check(trial)
    async with withholding(guest.machine, free_slot(trial.spec)) as device:
        address = await _proven(trial, device)
        await keep_to_first_cpu(guest)
        stall = parse_stall(trial.options["stall"])
        value = _VALUE if trial.options["direction"] == "write" else None
        access = Access(route=Route(trial.options["access"]), bar=0, offset=_OFFSET, width=1, value=value)
        trial.modelled = f"the device: {stall.words}" if stall.on else ""
        guest.machine.watch.tolerate(*_TOLERATED)
        log_position = guest.shell.log.latest
        async with trying(guest, address, access) as attempt, _answered_when_reported(guest, device) as reported:
            device.withhold(stall)
            trial.stimulus(f"{access} of {device.device.id}, on CPU {_CPU}")
            await attempt.start(cpu=_CPU)
            ended = await attempt.watch(trial.options["seconds"] + stall.seconds)
            held = None if ended else await _look(guest, attempt)
            if held:
                await _wait(guest, reported)
            device.release()
            probed = await attempt.end()
        await guest.shell.sleep(_SETTLE_SECONDS)
        await guest.shell.catch_up()
        after = [await _after_finding(guest, held)] if held else []
        findings = (
            _device_finding(device, probed),
            *_held_findings(held),
            *after,
            _log_finding(guest, log_position),
        )
    return _judge(trial, probed, held, findings)


def _check(trial: Trial) -> None:
    """Raise UnsupportedError where nobody could tell."""
    if trial.spec.cpus <= _CPU:
        raise UnsupportedError("while one CPU waits for the device, another must report it", hint="-p cpus=2")
    if trial.guest.machine.warped:
        raise UnsupportedError("warped time stops while a CPU waits for a device", hint="--time real")


async def _proven(trial: Trial, device: Withholder) -> Bdf:
    """Return where the guest has the device; raise BrokenError if it does not answer while it should."""
    guest = trial.guest
    address = await address_of(guest.machine, device.device.id)
    there = await guest.shell.wait_path(f"{address.sysfs}/resource0", exists=True, seconds=trial.deadline)
    if not there.came:
        raise BrokenError(f"starting state: the guest did not notice the device at {address}")
    await enable(guest, address)
    write = Access(route=Route.USER, bar=0, offset=0, width=4, value=0x600D)
    await complete(guest, address, write)
    read, _ = await complete(guest, address, Access(route=Route.USER, bar=0, offset=0, width=4))
    if read.last != write.value or not device.records:
        raise BrokenError(f"starting state: the device reads as {read.last:#x}, not as what was written")
    return address


@contextlib.asynccontextmanager
async def _answered_when_reported(guest: Guest, device: Withholder) -> AsyncIterator[asyncio.Event]:
    """Answer once the kernel reports a stuck CPU on its console; the event is set then.

    The CPU that noticed waits for an NMI's answer from the other one, with interrupts off and by a count that takes
    minutes where TCG is slow (Linux lib/nmi_backtrace.c): meanwhile the whole guest is silent.
    """
    reported = asyncio.Event()

    def answer(_: GuestCrashedError) -> None:
        reported.set()
        device.release()

    with guest.machine.watch.follow(answer):
        try:
            yield reported
        finally:
            device.release()  # before the process is killed, which has no effect until then


async def _wait(guest: Guest, reported: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(guest.machine.watch.during(reported.wait()), _REPORT_SECONDS)


async def _look(guest: Guest, attempt: Attempt) -> _Held:
    """Collect the witnesses while the access waits; nobody may touch the device meanwhile, or QEMU waits too."""
    before = await _ticks(guest)
    status = await guest.machine.qmp.execute("query-status")
    status_evidence = guest.machine.qmp.last_reply
    await attempt.kill()
    await guest.shell.sleep(_SETTLE_SECONDS)
    task = await find_task(guest, PROGRAM)
    return _Held(
        status=status["status"],
        status_evidence=status_evidence,
        ticks=(before, await _ticks(guest)),
        state=task.state if task else "",
        state_evidence=task.evidence if task else "shell.jsonl",
    )


async def _ticks(guest: Guest) -> _Ticks:
    shown = await guest.shell.run("grep LOC: /proc/interrupts")
    words = shown.text.split()[1:]
    return _Ticks(counts=tuple(int(word) for word in words if word.isdecimal()), evidence=shown.evidence)


def _judge(trial: Trial, probed: Probed, held: _Held | None, findings: tuple[Finding, ...]) -> Judgement:
    direction = probed.register.access.direction
    lockups = [finding.observed for finding in findings if finding.evidence.startswith("kernel.log:")]
    report = f"; the kernel: {lockups[0]}" if lockups else "; the kernel logs nothing"
    if held is None:
        took = probed.guest_seconds or 0.0
        late = bool(lockups) or took > _LOCKUP_SECONDS
        why = f", where a CPU may stand still for {_LOCKUP_SECONDS}{report}" if late else ""
        return Judgement(
            verdict=Verdict.BAD if late else Verdict.GOOD,
            outcome="late" if late else "completed",
            reason=f"the {direction} completed after {took:.1f} guest s{why}",
            findings=findings,
            guest_seconds=took,
        )
    seconds = trial.options["seconds"]
    alive = "cannot be killed" if held.state else "was ended by SIGKILL"
    return Judgement(
        verdict=Verdict.BAD,
        outcome="blocked",
        reason=f"the {direction} did not complete in {seconds} guest s: CPU {_CPU} is stuck in it, the process {alive}"
        + report,
        findings=findings,
        guest_seconds=seconds,
    )


def _device_finding(device: Withholder, probed: Probed) -> Finding:
    gpa = probed.register.gpa
    numbers = [n for n, record in enumerate(device.records) if record.gpa == gpa]
    observed = f"got {len(numbers)}" + (f", the first: {device.records[numbers[0]]}" if numbers else "")
    evidence = device.evidence[numbers[0]] if numbers else "mmio.jsonl"
    return Finding(subject="device (the test bed's)", expected="gets the access", observed=observed, evidence=evidence)


def _held_findings(held: _Held | None) -> list[Finding]:
    if held is None:
        return []
    before, after = held.ticks
    ticked = [last - first for first, last in zip(before.counts, after.counts, strict=True)]
    counts = ", ".join(f"CPU {cpu} took {count}" for cpu, count in enumerate(ticked))
    task = f"in state {held.state}" if held.state else "gone"
    return [
        Finding(
            subject="timer interrupts meanwhile",
            expected="every CPU takes some",
            observed=f"{counts}, while the process was killed and {_SETTLE_SECONDS:g} guest s passed",
            evidence=after.evidence,
        ),
        Finding(subject="process after SIGKILL", expected="gone", observed=task, evidence=held.state_evidence),
        Finding(
            subject="QMP meanwhile",
            expected="answers",
            observed=f"query-status: {held.status}",
            evidence=held.status_evidence,
        ),
    ]


async def _after_finding(guest: Guest, held: _Held) -> Finding:
    """Find out whether all is well again once the device has answered."""
    task = await find_task(guest, PROGRAM)
    ticks = await _ticks(guest)
    took = ticks.counts[_CPU] - held.ticks[-1].counts[_CPU]
    process = f"in state {task.state}" if task else "gone"
    return Finding(
        subject="after the answer",
        expected=f"process gone, CPU {_CPU} takes timer interrupts",
        observed=f"process {process}, CPU {_CPU} took {took}",
        evidence=ticks.evidence,
    )


def _log_finding(guest: Guest, log_position: int) -> Finding:
    reports = guest.shell.log.find(LOCKUP, after=log_position)
    return Finding(
        subject="kernel log",
        expected="no lockup",
        observed="; ".join(dict.fromkeys(line.text for line in reports)) or "reports no lockup",
        evidence=reports[0].reference if reports else "kernel.log",
    )
