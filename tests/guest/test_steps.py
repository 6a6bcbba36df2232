"""Scenarios written as steps, taken with a guest: what each kind of step sees, and what it means for the verdict."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from testbed.campaign.cell.start import start_key
from testbed.model.errors import InputError
from testbed.model.outcome import Verdict
from testbed.steps.file import load_steps
from testbed.steps.run import run_steps
from tests.guest.conftest import prepared
from tests.guest.test_boot_session import scripted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from testbed.guest.guest import Guest
    from testbed.model.outcome import Judgement
    from testbed.pytest_plugin import Judge

    Take = Callable[[str], Awaitable[Judgement]]

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.testbed("q35", parameters={"ports": 3}),
    pytest.mark.xdist_group("steps"),
]


@pytest.fixture
def take(testbed_guest: Guest, tmp_path: Path) -> Take:
    """Return what takes steps with the module's guest, and judges them."""

    async def taken(steps: str) -> Judgement:
        path = tmp_path / "t.yaml"
        path.write_text("question: q\nsteps:\n" + textwrap.dedent(steps))
        return await run_steps(
            load_steps(path), testbed_guest, {}, tell_stimulus=lambda _: None, progress=lambda _: None
        )

    return taken


async def test_every_condition_sees_what_holds_and_the_evidence_stands_in_the_rundir(
    take: Take, testbed_guest: Guest
) -> None:
    judgement = await take(
        """\
        - sh echo before > /dev/kmsg
        - expect: {log: ^before$}
        - stimulus: sh echo after > /dev/kmsg; echo said
        - expect: ^said$
        - expect: {log: ^after$}
        - expect-not: {log: ^before$}
        - qmp stop
        - cont
        - wait: {event: RESUME}
        - expect: {event: STOP}
        - expect: {device: dev1}
        - expect-not: {device: dev9}
        - expect: {path: dev1/vendor, holds: "0x1af4"}
        - expect: {path: "/sys/bus/pci/devices/*/class", holds: ^0x0604}
        - expect: {path: /sys/bus/pci/slots}
        - expect: {gone: /sys/block/vdz}
        - expect: {register: rp1 VENDOR_ID, is: 0x1b36}
        - expect: {register: rp1 COMMAND, is: 6, mask: 6}
        - expect-not: {register: "0000:00:1e.0 COMMAND", is: 6}
        """
    )
    assert (judgement.verdict, judgement.outcome) == (Verdict.GOOD, "as-expected"), judgement.reason
    assert len(judgement.findings) == 14
    for finding in judgement.findings:
        file, _, line = finding.evidence.partition(":")
        lines = (testbed_guest.machine.rundir / file).read_text().split("\n")
        assert int(line) <= len(lines)
    (said,) = [each for each in judgement.findings if each.subject == "t.yaml:7 expect log"]
    assert (said.expected, said.observed) == ("the kernel to say '^after$'", "after")


@pytest.mark.parametrize(
    ("step", "outcome", "subject"),
    [
        ("expect: no such words", "not-seen", "expect answer"),
        ("expect-not: ^hello$", "unwanted", "expect-not answer"),
        ("expect: {device: dev9}", "not-seen", "expect device"),
        ("expect: {event: SHUTDOWN}", "not-seen", "expect event"),
        ('expect: {path: dev1/vendor, holds: "0x8086"}', "not-seen", "expect path"),
        ("expect: {path: dev9/vendor}", "not-seen", "expect path"),
        ("expect: {register: rp1 COMMAND, is: 0}", "not-seen", "expect register"),
        ("wait: {log: never said, within: 0.5}", "timed-out", "wait log"),
        ("wait: {event: SHUTDOWN, host: 0.3}", "timed-out", "wait event"),
        ("wait: {gone: /sys/block, within: 0.3}", "timed-out", "wait gone"),
        ("sh grep -q nothing /proc/version", "failed", "sh grep -q nothing /proc/version"),
        ("device_del id=dev9", "refused", "device_del id=dev9"),
        ("{do: query-status, fails: x}", "not-refused", "query-status"),
        ("{do: device_del id=dev9, fails: in use}", "refused-otherwise", "device_del id=dev9"),
    ],
)
async def test_what_does_not_come_is_broken_before_the_stimulus_and_bad_after_it(
    take: Take, step: str, outcome: str, subject: str
) -> None:
    hello = "sh echo hello"
    early = await take(f"- {hello}\n- {step}\n- stimulus: sh true\n- expect: status 0\n")
    assert (early.verdict, early.outcome) == (Verdict.BROKEN, "broken")
    assert [each.subject for each in early.findings] == [f"t.yaml:4 {subject}"]
    late = await take(f"- stimulus: {hello}\n- {step}\n- expect: x\n")
    assert (late.verdict, late.outcome) == (Verdict.BAD, outcome)
    assert late.findings[-1].subject == f"t.yaml:4 {subject}"
    assert late.reason.startswith(f"t.yaml:4 {subject}: expected ")


async def test_a_refusal_in_the_words_expected_is_good(take: Take) -> None:
    judgement = await take("- stimulus: device_del id=dev9\n  fails: Device 'dev9' not found\n")
    assert (judgement.verdict, judgement.outcome) == (Verdict.GOOD, "as-expected")
    (finding,) = judgement.findings
    assert finding.observed == "Device 'dev9' not found"
    assert finding.evidence.startswith("qmp.jsonl:")


async def test_an_event_answers_one_wait(take: Take) -> None:
    twice = "- stimulus: qmp stop\n- cont\n- wait: {event: RESUME}\n- wait: {event: RESUME, within: 0.5}\n- expect: x\n"
    judgement = await take(twice)
    assert (judgement.outcome, judgement.findings[-1].subject) == ("timed-out", "t.yaml:6 wait event")
    again = (
        "- stimulus: qmp stop\n- cont\n- repeat: 2\n  steps:\n    - wait: {event: RESUME}\n    - qmp stop\n    - cont\n"
    )
    assert (await take(again + "- expect: return\n")).outcome in ("as-expected", "not-seen")


async def test_a_guest_that_is_stopped_is_told_as_such(take: Take) -> None:
    try:
        waiting = await take("- stimulus: qmp stop\n- wait: {log: x, within: 1}\n- expect: x\n")
        assert (waiting.verdict, waiting.outcome) == (Verdict.BAD, "stopped")
        assert "the machine is stopped (paused)" in waiting.reason
    finally:
        await take("- stimulus: cont\n- wait: {event: RESUME}\n- expect-not: {device: dev9}\n")


async def test_a_device_plugged_and_unplugged_again_and_again(take: Take) -> None:
    judgement = await take(
        """\
        - stimulus: plug virtio-net on rp2 id=net7
        - expect: {path: net7/driver, holds: virtio-pci$}
        - unplug net7
        - expect: {gone: net7/driver}
        - repeat: 2
          steps:
            - plug virtio-net on rp2 id=net8
            - do: device_add driver=virtio-net-pci id=net8 bus=rp3
              fails: Duplicate
            - unplug net8
            - wait: {event: DEVICE_DELETED device=net8}
            - expect-not: {device: net8}
        """
    )
    assert judgement.verdict is Verdict.GOOD, judgement.reason


async def test_a_line_that_cannot_be_obeyed_is_a_mistake_of_the_file(take: Take) -> None:
    with pytest.raises(InputError, match=r"^t\.yaml:3: .*'dev9' does not exist"):
        await take("- stimulus: unplug dev9\n- expect: x\n")


LATE = "plug virtio-blk on rp2 id=late"


@pytest.mark.extended
@pytest.mark.seconds(20)
@pytest.mark.parametrize(
    ("step", "parameters", "cmdline", "words"),
    [
        (LATE, {"hotplug": "native"}, "pcie_aspm=off", f"{LATE}: late was added but did not appear: "),
        ("unplug dev1", {"hotplug": "native"}, "pcie_aspm=off", "unplug dev1: dev1 was asked to leave but stayed: "),
        ("expect: {register: rp1 ECAP_AER.l, is: 1, mask: 0xffff}", {}, "pci=nommconf", "has AER at "),
        ("expect: {path: rp1/aer_dev_fatal}", {}, "pci=nommconf", "has AER at "),
        ("expect: {register: dev1 CAP_MSIX+2.w, is: 0x8000, mask: 0x8000}", {}, "pci=nomsi", "MSI-X of 0000:01:00.0"),
    ],
)
async def test_a_starting_state_that_the_command_line_took_away_is_bad_with_the_suspect(
    step: str, parameters: dict[str, str], cmdline: str, words: str, testbed_try: Judge, tmp_path: Path
) -> None:
    path = tmp_path / "needs.yaml"
    path.write_text(f"question: q\nsteps:\n  - {step}\n  - stimulus: sh true\n  - expect: status 0\n")
    lost = await testbed_try(str(path), "q35", parameters=parameters, cmdline=cmdline)
    assert (lost.verdict, lost.outcome) == (Verdict.BAD, "taken-away"), lost.reason
    assert lost.reason.startswith("needs.yaml:3 ")
    assert words in lost.reason
    assert lost.reason.endswith(f"suspect: {cmdline}")
    kept = await testbed_try(str(path), "q35", parameters=parameters)
    assert kept.verdict is Verdict.GOOD, kept.reason


async def test_files_that_need_the_same_share_a_saved_guest(tmp_path: Path) -> None:
    def key(name: str, extra: str) -> str | None:
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"question: q\n{extra}steps:\n  - stimulus: sh {name}\n  - expect: x\n")
        return start_key(prepared(str(path)))

    assert key("a", "") == key("b", "")
    assert len({key("c", ""), key("d", "drivers: false\n"), key("e", "modules: [nvme]\n")}) == 3
    assert key("f", "fresh: true\n") is None


async def test_the_guests_crash_after_the_stimulus_is_bad_and_options_reach_the_steps(
    testbed_try: Judge, tmp_path: Path
) -> None:
    path = tmp_path / "crash.yaml"
    path.write_text(
        "question: Does it live?\noptions:\n  key: {type: str, default: c, doc: what is asked of the kernel}\n"
        "drivers: false\nsteps:\n"
        "  - stimulus: sh echo {{key}} > /proc/sysrq-trigger\n  - expect: status 0\n"
    )
    crashed = await testbed_try(str(path), "q35")
    assert (crashed.verdict, crashed.outcome) == (Verdict.BAD, "crashed"), crashed.reason
    helped = await testbed_try(str(path), "q35", options={"key": "h"})
    assert (helped.verdict, helped.outcome) == (Verdict.GOOD, "as-expected"), helped.reason


@pytest.mark.seconds(10)
async def test_a_session_that_was_recorded_is_good_where_it_was_recorded(testbed_try: Judge, tmp_path: Path) -> None:
    lines = (
        "sh uname -s",
        "plug virtio-net on rp2 id=net7",
        "plug virtio-nt",
        "device_add driver=virtio-net-pci id=net7",
        "devices",
        "unplug net7",
        "sh cat /nothing",
    )
    assert "\nrecorded: mine.yaml\n" in scripted(tmp_path, *lines, options=("--record", "mine.yaml")).stdout
    steps = (tmp_path / "mine.yaml").read_text().partition("steps:\n")[2]
    assert '  - stimulus: unplug net7\n  - expect: ": deleted$"\n' in steps
    assert [line for line in lines if line not in steps] == ["plug virtio-nt", "devices"]
    outcome = await testbed_try(str(tmp_path / "mine.yaml"), "q35")
    assert (outcome.verdict, outcome.outcome) == (Verdict.GOOD, "as-expected"), outcome.reason
    again = scripted(tmp_path, options=("--record", "mine.yaml"))
    assert (again.returncode, "file exists" in again.stderr) == (2, True)
