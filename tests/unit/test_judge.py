"""The table from exception to verdict: broken before the stimulus; from then on a death of the tested is bad."""

from __future__ import annotations

import errno
import inspect

import pytest

from testbed.campaign.cell.judge import REJECTED, rule
from testbed.model import errors
from testbed.model.errors import (
    BedError,
    BlockedError,
    BootError,
    BrokenError,
    ChannelError,
    GuestCrashedError,
    InputError,
    LackingError,
    MigrationError,
    OtherVersionError,
    QemuCrashedError,
    QemuLostError,
    RefusedError,
    SnapshotError,
    TakenAwayError,
    UnsupportedError,
    WarpError,
)
from testbed.model.kernel_log import Crash
from testbed.model.outcome import Verdict

PANIC = GuestCrashedError(Crash.PANIC, "Kernel panic - not syncing: x", evidence="kernel.log:9")
RESET = GuestCrashedError(Crash.RESET, "QEMU event SHUTDOWN", evidence="qmp.jsonl:30")
BLOCKED = BlockedError(
    "cat x", "process 7 (cat) is asleep (S)", stack=("fifo_open", "vfs_open"), evidence="shell.jsonl:5"
)
TAKEN = TakenAwayError("no SR-IOV", ("pci=nommconf",), evidence="shell.jsonl:6")
REFUSED = RefusedError("device_add", "Bus 'rp9' not found", evidence="qmp.jsonl:31")

#: error, verdict before the stimulus, verdict after it, outcome, evidence
TABLE: list[tuple[Exception, Verdict, Verdict, str, str]] = [
    (BedError("x"), Verdict.BROKEN, Verdict.BROKEN, "broken", "console.log"),
    (InputError("x"), Verdict.BROKEN, Verdict.BROKEN, REJECTED, "qemu.log"),
    (LackingError("x", lacking="igb"), Verdict.SKIP, Verdict.SKIP, "unsupported", "machine.yaml"),
    (OtherVersionError("x", lacking="8.1"), Verdict.SKIP, Verdict.SKIP, "other-version", "machine.yaml"),
    (UnsupportedError("x"), Verdict.SKIP, Verdict.SKIP, "unsupported", "console.log"),
    (MigrationError("x", evidence="q:1"), Verdict.BROKEN, Verdict.BAD, "not-migrated", "q:1"),
    (BrokenError("x"), Verdict.BROKEN, Verdict.BROKEN, "broken", "console.log"),
    (BootError("x"), Verdict.BROKEN, Verdict.BROKEN, "no-boot", "console.log"),
    (SnapshotError("x"), Verdict.BROKEN, Verdict.BROKEN, "broken", "console.log"),
    (WarpError("x"), Verdict.BROKEN, Verdict.BROKEN, "broken", "console.log"),
    (ChannelError("x"), Verdict.BROKEN, Verdict.BROKEN, "lost", "console.log"),
    (QemuLostError("x"), Verdict.BROKEN, Verdict.BROKEN, "lost", "qemu.log"),
    (REFUSED, Verdict.BROKEN, Verdict.BROKEN, "refused", "qmp.jsonl:31"),
    (PANIC, Verdict.BROKEN, Verdict.BAD, "crashed", "kernel.log:9"),
    (RESET, Verdict.BROKEN, Verdict.BAD, "crashed", "qmp.jsonl:30"),
    (TAKEN, Verdict.BAD, Verdict.BAD, "taken-away", "shell.jsonl:6"),
    (BLOCKED, Verdict.BROKEN, Verdict.BAD, "blocked", "shell.jsonl:5"),
    (QemuCrashedError("x"), Verdict.BROKEN, Verdict.BAD, "qemu-crashed", "qemu.log"),
    (OSError(28, "No space left on device"), Verdict.BROKEN, Verdict.BROKEN, "bed-error", "traceback.txt"),
    (TimeoutError(), Verdict.BROKEN, Verdict.BROKEN, "bed-error", "traceback.txt"),
    (AssertionError("x"), Verdict.BROKEN, Verdict.BROKEN, "bed-error", "traceback.txt"),
]
NAMES = [type(row[0]).__name__ for row in TABLE]


def test_the_table_holds_every_error_of_the_bed() -> None:
    there = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, BedError)}
    assert there <= set(NAMES)


@pytest.mark.parametrize(("error", "before", "after", "outcome", "evidence"), TABLE, ids=NAMES)
def test_each_error_has_its_verdict_on_either_side_of_the_stimulus(
    error: Exception, before: Verdict, after: Verdict, outcome: str, evidence: str
) -> None:
    for asked, verdict in ((None, before), ("device_del dev1", after)):
        ruling = rule(error, stimulus=asked)
        assert (ruling.verdict, ruling.outcome) == (verdict, outcome)
        finding, *_ = ruling.findings
        assert finding.evidence == evidence
        assert finding.subject == ("after device_del dev1" if asked else "before the stimulus")
        assert finding.observed == ruling.reason


def test_a_command_that_does_not_return_is_told_with_where_it_stands() -> None:
    _, task = rule(BLOCKED, stimulus=None).findings
    assert (task.subject, task.evidence) == (BLOCKED.task, BLOCKED.evidence)
    assert task.observed.split(" < ") == list(BLOCKED.stack)
    assert all(word in BLOCKED.message for word in ("'cat x'", BLOCKED.task, "fifo_open"))


@pytest.mark.parametrize(
    ("crash", "starved", "verdict"),
    [
        (Crash.LOCKUP, 15.0, Verdict.BROKEN),
        (Crash.RCU_STALL, 15.0, Verdict.BROKEN),
        (Crash.LOCKUP, 3.0, Verdict.BAD),
        # these happen whatever the host does
        (Crash.PANIC, 15.0, Verdict.BAD),
        (Crash.OOPS, 15.0, Verdict.BAD),
    ],
)
def test_a_lockup_on_a_host_that_did_not_let_qemu_run_is_no_verdict(
    crash: Crash, starved: float, verdict: Verdict
) -> None:
    error = GuestCrashedError(crash, "watchdog: BUG: soft lockup - CPU#0 stuck for 26s!", evidence="console.log:9")
    ruling = rule(error, stimulus="device_del dev1", starved=starved)
    assert ruling.verdict is verdict
    assert ("no CPU for 15 s" in ruling.reason) == (verdict is Verdict.BROKEN)
    assert (ruling.outcome == "starved") == (verdict is Verdict.BROKEN)


def test_an_error_without_words_is_told_by_its_name_and_says_where_to_look() -> None:
    ruling = rule(TimeoutError(), stimulus=None)
    assert ruling.reason == "TimeoutError"
    assert "traceback.txt" in (ruling.hint or "")


def test_an_error_of_the_bed_is_told_in_its_own_words_with_its_hint() -> None:
    ruling = rule(BootError("boot: no shell", hint="more memory"), stimulus=None)
    assert (ruling.reason, ruling.hint) == ("boot: no shell", "more memory")


def test_what_is_lacking_is_told_with_what_provides_it_and_not_with_a_guess_at_its_name() -> None:
    error = LackingError("device 'igb' does not exist", hint="did you mean igd?", lacking="igb")
    assert rule(error, stimulus=None).hint == "testbed qemu fetch"


def test_a_bug_of_the_bed_is_named_by_its_type() -> None:
    ruling = rule(KeyError("rp1"), stimulus=None)
    assert ruling.reason == "KeyError: 'rp1'"
    assert "traceback.txt" in (ruling.hint or "")


def test_nothing_is_ever_good_by_an_exception() -> None:
    verdicts = {rule(row[0], stimulus=asked).verdict for row in TABLE for asked in (None, "x")}
    assert Verdict.GOOD not in verdicts


def test_what_the_host_has_run_out_of_is_told_with_its_mend() -> None:
    ruling = rule(OSError(errno.EMFILE, "Too many open files", "/x"), stimulus=None)
    assert (ruling.verdict, ruling.reason) == (Verdict.BROKEN, "the host: Too many open files: /x")
    assert ruling.hint == "allow more open files: ulimit -n 1024"
