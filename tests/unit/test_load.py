"""A load's counts, and what they make of the verdict on the stimulus."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from testbed.actions.register import Access, Route
from testbed.campaign.prepared import prepare_cell
from testbed.guest.disk_writer import BLOCK, WriterReport, block
from testbed.guest.load import Tally, read_tally
from testbed.model.errors import BrokenError, InputError
from testbed.model.outcome import Cell, Finding, Judgement, Verdict
from testbed.scenarios.load import Load
from testbed.scenarios.load_kinds import DiskLoad, Fate, NetLoad, RegisterLoad
from testbed.scenarios.scenario import LOADS, find_scenario, scenario

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.scenarios.load_kinds import LoadKind

MARKED, STOPPED = 10.0, 20.0
TALLY = Tally(done=1000, last=19.99, before_ms=12.0, after_ms=480.0, status=0, error="", evidence="shell.jsonl:7")
FINDING = Finding(subject="x", expected="y", observed="y", evidence="qmp.jsonl:1")
GOOD = Judgement(verdict=Verdict.GOOD, outcome="present", reason="there", findings=(FINDING,))


def verbs(*tallies: Tally) -> Any:
    async def ended() -> list[Tally]:
        return list(tallies)

    async def stop() -> None:
        return None

    return SimpleNamespace(tallies=ended, reports=ended, stop=stop, ended=True)


def frames(*, sent: int = 1000, done: int = 1000, lost_before: int = 0, refused: int = 0, **fields: Any) -> NetLoad:
    counts = {"sent": sent, "refused": refused, "lost_before": lost_before}
    return NetLoad(interface="eth0", verbs=verbs(replace(TALLY, done=done, counts=counts, **fields)))


def reads(*, ones: int = 0, changed: int = 0, **fields: Any) -> RegisterLoad:
    access = Access(route=Route.USER, bar=0, offset=8, width=4)
    tally = replace(TALLY, counts={"ones": ones, "changed": changed, "first": 1, "value": 1}, **fields)
    return RegisterLoad(device="dev1", access=access, verbs=verbs(tally))


def test_what_a_verb_prints_is_read() -> None:
    printed = b"sent=210 refused=4 lost_before=0 done=200 last=31.250000 before_ms=11.5 after_ms=90.25\n"
    result = SimpleNamespace(text=printed.decode(), error="", status=0, evidence="shell.jsonl:3")
    tally = read_tally(result)  # type: ignore[arg-type]
    assert (tally.done, tally.last, tally.before_ms, tally.after_ms) == (200, 31.25, 11.5, 90.25)
    assert tally.counts == {"sent": 210, "refused": 4, "lost_before": 0}
    killed = read_tally(SimpleNamespace(text="", error="", status=-9, evidence="x"))  # type: ignore[arg-type]
    assert (killed.done, killed.error) == (0, "status -9")


@pytest.mark.parametrize(
    ("kind", "fate", "failure", "words"),
    [
        (frames(), Fate.STAYS, "", "lost 0 of 1000; the last ones came back"),
        (frames(done=997), Fate.STAYS, "frames-lost", "lost 3 of 1000"),
        (frames(done=997), Fate.DISTURBED, "", "lost 3 of 1000"),
        (frames(done=300, last=13.0), Fate.DISTURBED, "no-traffic", "lost 700 of 1000"),
        (frames(done=300, last=13.0, error="No such device"), Fate.GONE, "", "No such device"),
        (frames(done=990, refused=10), Fate.DISTURBED, "", "10 of them refused by the kernel"),
        (reads(), Fate.STAYS, "", "all ones 0 of 1000"),
        (reads(ones=2), Fate.STAYS, "no-answer", "all ones 2 of 1002"),
        (reads(ones=2), Fate.DISTURBED, "", "all ones 2 of 1002"),
        (reads(changed=1), Fate.STAYS, "register-changed", "of 1001, another value 1; the last one 0x1"),
        (reads(changed=1), Fate.DISTURBED, "", "another value 1"),
        (reads(ones=900, last=12.0), Fate.DISTURBED, "no-answer", "all ones 900"),
        (reads(error="bus error", last=12.0), Fate.GONE, "", "bus error"),
        (reads(error="bus error"), Fate.STAYS, "no-answer", "bus error"),
    ],
)
async def test_what_counts_against_a_device_depends_on_what_was_done_to_it(
    kind: LoadKind, fate: Fate, failure: str, words: str
) -> None:
    result = await kind.result(fate, marked=MARKED, stopped=STOPPED)
    assert result.failure == failure
    assert words in result.findings[0].observed
    assert {each.evidence for each in result.findings} == {"shell.jsonl:7"}
    if isinstance(kind, RegisterLoad) and fate is Fate.GONE:
        assert "gap" not in result.summary
        return
    assert result.findings[-1].observed.startswith("480 ms")
    assert "12 ms before" in result.findings[-1].expected


async def test_frames_lost_before_the_request_say_nothing_about_it() -> None:
    with pytest.raises(BrokenError, match="3 frames on eth0 were lost before"):
        await frames(lost_before=3, done=997).result(Fate.STAYS, marked=MARKED, stopped=STOPPED)


@pytest.mark.parametrize(
    ("held", "error", "fate", "failure"),
    [
        ((1, 2, 3), "", Fate.STAYS, ""),
        ((1, 2, 3), "No space left on device", Fate.GONE, ""),
        ((1, 2, 3), "Input/output error", Fate.DISTURBED, "write-failed"),
        ((1, 2, 3), "status -9", Fate.RESET, ""),
        ((1, 0, 3), "status -9", Fate.RESET, "data-lost"),
        ((1, 0, 3), "No space left on device", Fate.GONE, "data-lost"),
        ((1, 0, 3), "", Fate.STAYS, "data-lost"),
    ],
)
async def test_an_acknowledged_write_must_be_in_the_image(
    held: tuple[int, ...], error: str, fate: Fate, failure: str, tmp_path: Path
) -> None:
    image = tmp_path / "dev1.raw"
    image.write_bytes(b"".join(block(number) if number else bytes(BLOCK) for number in held))
    report = WriterReport(**vars(replace(TALLY, done=3, error=error)), first=0, count=4)
    result = await DiskLoad(device="dev1", image=image, verbs=verbs(report)).result(
        fate, marked=MARKED, stopped=STOPPED
    )
    assert result.failure == failure
    assert ("lost in 1 blocks, the first is 1" in result.summary) == (failure == "data-lost")


@pytest.mark.parametrize(
    ("verdict", "kind", "subject", "outcome"),
    [
        (Verdict.GOOD, frames(done=900), True, "present"),  # it was disturbed, and came back
        (Verdict.GOOD, frames(done=900), False, "frames-lost"),  # nobody touched it
        (Verdict.BAD, frames(done=900), False, "present"),  # what was bad before keeps its outcome
    ],
)
async def test_the_verdict_holds_what_was_counted(
    verdict: Verdict, kind: LoadKind, subject: bool, outcome: str
) -> None:
    async def sleep(_: float) -> None:
        return None

    async def clock() -> float:
        return STOPPED

    trial: Any = SimpleNamespace(guest=SimpleNamespace(shell=SimpleNamespace(sleep=sleep, clock=clock)))
    load = Load(trial=trial, kind=kind, subject="dev1" if subject else "", marked=MARKED)
    judged = await load.judged(GOOD.model_copy(update={"verdict": verdict}), Fate.DISTURBED)
    assert judged.outcome == outcome
    assert (judged.verdict is Verdict.BAD) == (verdict is Verdict.BAD or outcome != "present")
    assert judged.reason.startswith("frames lost 100 of 1000, longest gap 480 ms; ")
    assert len(judged.findings) == 3


async def test_without_a_load_the_judgement_stays_as_it_is() -> None:
    trial: Any = None
    assert await Load(trial=trial).judged(GOOD, Fate.GONE) is GOOD


def test_a_scenario_of_ones_own_says_what_it_keeps_busy() -> None:
    async def mine(trial: Any) -> Judgement:
        """Is it so?"""
        del trial
        return GOOD

    assert scenario(loads=("net",))(mine).options["load"].choices == ["none", "net"]
    with pytest.raises(InputError, match="loads: got 'disk', wanted some of io, net, mmio"):
        scenario(loads=("disk",))(mine)


def test_a_load_takes_real_time_and_a_guest_of_its_own() -> None:
    unplug = find_scenario("disk-unplug")
    assert unplug.options["load"].choices == [*LOADS]
    assert not unplug.is_loaded(unplug.values({}))
    assert unplug.is_loaded(unplug.values({"load": "io"}))
    assert not find_scenario("disk-present").is_loaded({})
    cell = Cell(scenario="disk-unplug", machine="q35", options={"load": "io"}, time="warped")
    with pytest.raises(InputError, match="with load=io its guest's time is real"):
        prepare_cell(cell, progress=lambda _: None)
    with pytest.raises(InputError, match="option load: got 'disk'"):
        unplug.values({"load": "disk"})
