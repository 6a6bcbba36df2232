"""A survey's rows as facts: named by QEMU's ids, without addresses and times, so that two machines can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.mmio_survey import Read, SurveyRow
from testbed.actions.probe_result import Timing
from testbed.campaign.compare.differences import fact_differences
from testbed.guest.bars import AssignedBar, Owner
from testbed.guest.facts import add_facts
from testbed.model.bar import Space
from testbed.model.fact import FACTS_FILE, Fact, FactKind, Facts
from testbed.model.pci import Bdf
from testbed.scenarios.mmio_survey import register_facts

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {"0000:01:00.0": "dev1"}


def read(first: int, last: int, nanoseconds: int = 50) -> Read:
    timing = Timing(first=first, last=last, count=3, min_ns=nanoseconds, mean_ns=nanoseconds, max_ns=nanoseconds)
    return Read(timing=timing, fault="", evidence="shell.jsonl:7")


def row(start: int, user: Read, kernel: Read) -> SurveyRow:
    bar = AssignedBar(index=4, space=Space.MEMORY, start=start, size=0x4000, prefetchable=True)
    owner = Owner(address=Bdf.parse("0000:01:00.0"), vendor=0x1AF4, device=0x1041, driver="", bars=(bar,))
    return SurveyRow(owner=owner, bar=bar, offset=0x10, width=4, user=user, kernel=kernel)


def test_only_what_a_register_reads_as_differs() -> None:
    refused = Read(timing=None, fault="mmap: EINVAL: the BAR is in use by a driver")
    one = list(register_facts([row(0xFEA00000, read(5, 5), read(5, 5))], NAMES))
    other = list(register_facts([row(0xFEB00000, read(5, 5, 900), refused)], NAMES))
    (difference,) = fact_differences("mmio-survey", ("a", "b"), one, other)
    assert (difference.kind, difference.subject) == ("register", "dev1 BAR 4 (memory) + 0x10")
    assert difference.aspect == "4 bytes by kernel"
    assert difference.values == {"a": "0x5", "b": refused.fault}


def test_a_register_that_counts_has_no_value() -> None:
    there, user, kernel = register_facts([row(0xFEA00000, read(5, 9), read(5, 5))], NAMES)
    assert (user.value, kernel.value) == ("changes", "0x5")
    assert (there.aspect, there.value) == ("", "in 0x4000 bytes")


def test_a_register_that_only_one_has_is_told_once() -> None:
    one = list(register_facts([row(0xFEA00000, read(5, 5), read(5, 5))], NAMES))
    (difference,) = fact_differences("mmio-survey", ("a", "b"), one, [])
    assert difference.values == {"a": "in 0x4000 bytes", "b": None}


def test_facts_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    facts = [Fact(kind=FactKind.REGISTER, subject=f"r{n}", value="0x1", evidence="shell.jsonl:1") for n in range(2)]
    add_facts(tmp_path, facts[:1])
    add_facts(tmp_path, facts[1:])
    assert Facts.validate_json((tmp_path / FACTS_FILE).read_bytes()) == tuple(facts)
