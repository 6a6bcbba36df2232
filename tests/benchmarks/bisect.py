"""What `make bench` measures of bisects: real searches, against the boots that other searches need.

One culprit of 16 options (`pcie_aspm=off`), and two of 24 that are only bad together: pciehp that polls its slots, and
polls them every 60 s, is too late for a deadline of 30 s. The culprits stand elsewhere in each round. The reference
searches are asked the same questions on paper; their seconds are their boots times the seconds of a boot of the real
search that ran one guest at a time. Every boot is counted: the ends, the proof and the remedy too.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.campaign.bisect.over_given import options_of
from testbed.campaign.bisect.result import Answer
from testbed.campaign.bisect.run import Way, bisect
from testbed.model.outcome import Cell
from tests.benchmarks.measures import Ratio, new_folder
from tests.benchmarks.searches import delta_debugging, one_by_one

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from testbed.campaign.bisect.oracle import Tried
    from testbed.campaign.bisect.result import ElementState, Question, SearchTrial, Subset
    from testbed.campaign.bisect.run import Bisected
    from tests.benchmarks.searches import Counted

#: what stands on lines and has no part in hot-plug
_ORDINARY = [
    "BOOT_IMAGE=/vmlinuz",
    "root=/dev/vda1",
    "ro",
    "quiet",
    "splash",
    "nomodeset",
    "console=tty0",
    "crashkernel=64M",
    "net.ifnames=0",
    "biosdevname=0",
    "audit=0",
    "selinux=0",
    "apparmor=0",
    "nmi_watchdog=0",
    "mitigations=off",
    "transparent_hugepage=never",
    "intel_iommu=off",
    "pci=noats",
    "printk.devkmsg=on",
    "consoleblank=0",
    "rd.lvm.lv=vg0/root",
    "loglevel=4",
    "random.trust_cpu=on",
]


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """Options among which culprits are hidden."""

    count: int
    culprits: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"bisect {len(self.culprits)} of {self.count}"

    def line(self, turn: int, turns: int) -> list[str]:
        """Return the options, the culprits at other places in each turn."""
        line = _ORDINARY[: self.count - len(self.culprits)]
        for number, culprit in enumerate(self.culprits):
            share = (2 * turn + 1 + number * turns) % (2 * turns) / (2 * turns)
            line.insert(round(share * len(line)), culprit)
        return line


_PROBLEMS = (
    _Problem(count=16, culprits=("pcie_aspm=off",)),
    _Problem(count=24, culprits=("pciehp.pciehp_poll_mode=1", "pciehp.pciehp_poll_time=60")),
)


@dataclass
class _Taken:
    """Seconds and boots of each way, one of each a round."""

    alone: list[float] = field(default_factory=list)
    pairs: list[float] = field(default_factory=list)
    boots: list[int] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    others: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


async def measure_bisects(rounds: int) -> AsyncIterator[Ratio]:
    """Yield for each problem: the other searches against ours, and one guest at a time against pairs."""
    for problem in _PROBLEMS:
        taken = _Taken()
        for turn in range(rounds):
            await _turn(problem, problem.line(turn, rounds), taken)
        ours = f"ours, {_most(taken.boots)} boots"
        for name, counted in taken.others.items():
            yield Ratio(
                name=problem.name,
                slow=f"{name}, {_most([boots for boots, _ in counted])} boots",
                quick=ours,
                slow_seconds=[seconds for _, seconds in counted],
                quick_seconds=taken.alone,
            )
        yield Ratio(
            name=problem.name,
            slow=f"{ours} one at a time",
            quick=f"in pairs, {_most(taken.rounds)} rounds",
            slow_seconds=taken.alone,
            quick_seconds=taken.pairs,
        )


async def _turn(problem: _Problem, line: list[str], taken: _Taken) -> None:
    """Search one line in every way."""
    alone, seconds = await _real(problem, line, parallel=1)
    pairs, in_pairs = await _real(problem, line, parallel=2)
    taken.alone.append(seconds)
    taken.pairs.append(in_pairs)
    taken.boots.append(alone.boots)
    taken.rounds.append(pairs.result.rounds)
    others: dict[str, Callable[..., Awaitable[Counted]]] = {"one by one": one_by_one, "ddmin": delta_debugging}
    hidden = frozenset(line.index(culprit) for culprit in problem.culprits)
    for name, other in others.items():
        counted = await other(len(line), _on_paper(hidden))
        taken.others.setdefault(name, []).append((counted.boots, counted.boots * seconds / alone.boots))


async def _real(problem: _Problem, line: list[str], *, parallel: int) -> tuple[Bisected, float]:
    """Bisect with real guests; raise RuntimeError if that is not the answer."""
    cell = Cell(scenario="disk-unplug", machine="q35", parameters={"hotplug": "native"}, cmdline=" ".join(line))
    began = time.perf_counter()
    done = await bisect(options_of(cell), Way(parallel=parallel), rundir=new_folder(), observer=_Silent())
    seconds = time.perf_counter() - began
    found = {line[number] for number in done.result.culprits}
    if found != set(problem.culprits) or done.result.incomplete:
        raise RuntimeError(f"bench: {problem.name}: found {' '.join(sorted(found)) or 'nothing'}")
    return done, seconds


def _on_paper(hidden: Subset) -> Callable[[Subset, int], Awaitable[Answer]]:
    async def ask(subset: Subset, attempt: int) -> Answer:
        await asyncio.sleep(0)
        return Answer.BAD if hidden <= subset else Answer.GOOD

    return ask


def _most(numbers: list[int]) -> str:
    lowest, highest = min(numbers), max(numbers)
    return str(highest) if lowest == highest else f"{lowest} to {highest}"


class _Silent:
    """Hears nothing."""

    def note(self, text: str) -> None: ...

    def phase(self, subset: Subset, attempt: int, phase: str) -> None: ...

    def asking(self, subset: Subset, question: Question) -> None: ...

    def answered(self, trial: SearchTrial, tried: Tried) -> None: ...

    def states(self, states: tuple[ElementState, ...]) -> None: ...
