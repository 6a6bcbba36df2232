"""Scenario replug-cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import PlugOutcome, plug, release_backends
from testbed.actions.inventory import Inventory, take_inventory, trend
from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.device_proof import await_device, prove_device
from testbed.guest.hotplug_control import read_control
from testbed.model.device_kind import KINDS, hot_device
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.hotplug_judgement import judge_plug, judge_unplug
from testbed.scenarios.scenario import PATIENCE, scenario
from testbed.scenarios.starting_state import load_driver
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.guest.hotplug_control import HotplugControl
    from testbed.model.device_kind import DeviceParts
    from testbed.model.kernel_log import LogRecord
    from testbed.scenarios.trial import Trial

#: syslog level of the messages that count as trouble: warning and worse
_WARNING = 4
#: cycles that are not counted: caches fill
_FIRST_CYCLES = 2
#: KiB of guest memory a cycle may cost; what is lost for good is a page or more in each
_MEMORY_KIB = 64.0
#: cycles from which on a trend can be told from noise
_TREND_CYCLES = 20
_OPTIONS = {
    "cycles": Parameter(type="int", default=10, min=1, max=10_000, doc="how often it is plugged and unplugged"),
    "device": Parameter(
        type="str", default="virtio-blk", choices=[kind.name for kind in KINDS], doc="the device that is replugged"
    ),
}


@scenario(warp_safe=True, patience=PATIENCE, options=_OPTIONS)
async def replug_cycles(trial: Trial) -> Judgement:
    """Can a device be plugged and unplugged many times in one slot without leaks?

    It must work after each plug. Slots, PCI functions, interrupts, QEMU's devices, block nodes and chardevs must be the
    same in the end as in the beginning; the kernel must not warn; the guest's free memory must not fall cycle by cycle.
    """
    slot = free_slot(trial.spec)
    parts = hot_device(trial.options["device"], slot)
    await load_driver(trial, parts.device)
    control = await read_control(trial.guest, slot)
    cycles: int = trial.options["cycles"]
    before = await take_inventory(trial.guest)
    trial.stimulus(f"device_add and device_del of {parts.device.driver} on {slot.bus}, {cycles} times")
    free, slowest = [], 0.0
    for cycle in range(1, cycles + 1):
        trial.progress(f"cycle {cycle} of {cycles}")
        failed, latency = await _cycle(trial, parts, control)
        if failed:
            return failed.model_copy(update={"reason": f"in cycle {cycle} of {cycles}: {failed.reason}"})
        now = await take_inventory(trial.guest)
        free.append(now.free_kib)
        slowest = max(slowest, latency)
    await trial.guest.shell.catch_up()
    warnings = [each for each in trial.guest.shell.log.find("", after=control.log_position) if each.level <= _WARNING]
    kept = [*_held(before, now), _warned(warnings), _memory(free, now)]
    leaks = [finding.subject for leaked, finding in kept if leaked]
    works = f"{cycles} cycles, each release within {slowest:.1f} s"
    return Judgement(
        verdict=Verdict.BAD if leaks else Verdict.GOOD,
        outcome="leaked" if leaks else "clean",
        reason=f"{works}; left behind: {', '.join(leaks)}" if leaks else f"{works}; nothing is left behind",
        findings=tuple(finding for _, finding in kept),
        guest_seconds=slowest,
    )


async def _cycle(trial: Trial, parts: DeviceParts, control: HotplugControl) -> tuple[Judgement | None, float]:
    """Plug, prove and unplug once; return the judgement if that failed, and the guest seconds the release took."""
    plugged = await plug(trial.guest, parts, seconds=trial.deadline)
    if plugged.outcome is not PlugOutcome.PRESENT:
        return await judge_plug(trial, plugged, control, parts.device), 0.0
    await await_device(trial.guest, parts.device, seconds=trial.deadline)
    proof = await prove_device(trial.guest, parts.device)
    if not proof.works:
        dead = Judgement(verdict=Verdict.BAD, outcome="dead", reason=proof.observed, findings=(proof.finding,))
        return dead, 0.0
    unplugged = await unplug(trial.guest, parts.device.id, seconds=trial.deadline)
    if unplugged.outcome is not UnplugOutcome.DELETED:
        return await judge_unplug(trial, unplugged, control), 0.0
    await release_backends(trial.guest.machine, parts)
    return None, unplugged.settled


def _held(before: Inventory, now: Inventory) -> Iterator[tuple[bool, Finding]]:
    """Yield for each kind of thing whether it leaked, and what was seen."""
    changed = now.more_than(before)
    for what in before.things:
        more = changed.get(what, [])
        yield (
            bool(more),
            Finding(
                subject=what,
                expected=f"{before.count(what)}, as in the beginning",
                observed=f"{now.count(what)}" + (f": {' '.join(more)}" if more else ""),
                evidence=now.evidence,
            ),
        )


def _warned(records: Sequence[LogRecord]) -> tuple[bool, Finding]:
    text, evidence = (records[0].text, records[0].reference) if records else ("no warning", "kernel.log")
    observed = text if len(records) < 2 else f"{len(records)} warnings, the first: {text}"
    return bool(records), Finding(subject="kernel log", expected="no warning", observed=observed, evidence=evidence)


def _memory(free: Sequence[int], now: Inventory) -> tuple[bool, Finding]:
    """Return whether guest memory leaked, if there are enough cycles to tell, and its trend."""
    lost = -trend(free[_FIRST_CYCLES:])
    enough = len(free) >= _TREND_CYCLES
    finding = Finding(
        subject="guest memory",
        expected=f"at most {_MEMORY_KIB:.0f} KiB less with each cycle" if enough else "any: too few cycles to tell",
        observed=f"MemAvailable from {free[0]} to {free[-1]} KiB, {lost:.1f} KiB less with each cycle",
        evidence=now.evidence,
    )
    return enough and lost > _MEMORY_KIB, finding
