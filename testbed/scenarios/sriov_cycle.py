"""Scenario sriov-cycle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.sriov import pf_of, set_vfs
from testbed.guest.files import show
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.scenario import scenario
from testbed.scenarios.sriov_state import (
    VF_MODULES,
    VFS_OPTION,
    check_vfs,
    differing,
    enabled_vfs,
    pf_device,
)

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.scenarios.trial import Trial

_CYCLES = Parameter(type="int", default=10, min=2, max=10_000, doc="how often")
_WATCHED = ("/sys/bus/pci/devices/*", "/sys/class/net/*", "/sys/kernel/iommu_groups/*/devices/*")
#: KiB a cycle may cost: the slab caches of a driver settle within a few cycles
_KIB_PER_CYCLE = 64


@scenario(modules=VF_MODULES, options={"vfs": VFS_OPTION, "cycles": _CYCLES})
async def sriov_cycle(trial: Trial) -> Judgement:
    """Can VFs be enabled and disabled repeatedly, with the same result each time and nothing left behind?"""
    count, cycles = int(trial.options["vfs"]), int(trial.options["cycles"])
    guest = trial.guest
    first = await enabled_vfs(trial, count)
    await set_vfs(guest, first.bdf, 0)
    before, memory = await _there(guest), await _unreclaimable(guest)
    trial.stimulus(f"{cycles} times {count} VFs of {first.bdf}")
    for cycle in range(1, cycles + 1):
        for wanted in (count, 0):
            written = await set_vfs(guest, first.bdf, wanted)
            if not written.taken:
                reason = f"cycle {cycle}: {written.words}"
                return Judgement(verdict=Verdict.BAD, outcome="refused", reason=reason, findings=(written.finding(),))
            pf = await pf_of(guest, pf_device(trial))
            wrong = differing(check_vfs(pf, wanted))
            if wrong:
                reason = f"cycle {cycle}: " + "; ".join(f"{each.subject}: {each.observed}" for each in wrong)
                return Judgement(verdict=Verdict.BAD, outcome="misplaced", reason=reason, findings=tuple(wrong))
    return await _judge_rest(guest, before, memory, cycles, written.seconds)


async def _judge_rest(guest: Guest, before: set[str], memory: int, cycles: int, seconds: float) -> Judgement:
    """Judge by what is there that was not there before."""
    shown = await show(guest, *_WATCHED)
    left = set(shown.links) - before
    gone = before - set(shown.links)
    grown = await _unreclaimable(guest) - memory
    findings = (
        Finding(
            subject="functions, interfaces and IOMMU groups",
            expected="as before",
            observed=", ".join(sorted([*left, *(f"no {path}" for path in gone)])) or "as before",
            evidence=shown.evidence,
        ),
        Finding(
            subject="unreclaimable kernel memory",
            expected=f"at most {_KIB_PER_CYCLE} KiB more a cycle",
            observed=f"{grown} KiB more after {cycles} cycles",
            evidence=shown.evidence,
        ),
    )
    leaks = bool(left or gone) or grown > _KIB_PER_CYCLE * cycles
    return Judgement(
        verdict=Verdict.BAD if leaks else Verdict.GOOD,
        outcome="leaks" if leaks else "repeatable",
        reason=f"{findings[0].observed}; {findings[1].observed}",
        findings=findings,
    )


async def _there(guest: Guest) -> set[str]:
    return set((await show(guest, *_WATCHED)).links)


async def _unreclaimable(guest: Guest) -> int:
    """Return the KiB of slab memory that the kernel cannot give back."""
    text = (await show(guest, "/proc/meminfo")).text("/proc/meminfo")
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("SUnreclaim:")), 0)
