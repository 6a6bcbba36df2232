"""Injected errors: each verdict with the register or the words it rests on, in a real guest."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from testbed.actions.aer import inject
from testbed.actions.injection import InjectionVerdict, Route
from testbed.actions.volley import inject_at_once
from testbed.guest.drivers import load_drivers
from testbed.model.aer import ErrorSeverity
from testbed.model.errors import InputError
from testbed.model.recovery import RecoveryState
from tests.guest.conftest import qemu_with

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.mark.structures import ParameterSet

    from testbed.actions.injection import Injection
    from testbed.pytest_plugin import BootFactory, Judge

_E1000E = {"hotplug": "native", "devices": ["e1000e"]}
_FATAL = ErrorSeverity.FATAL


def _repeated(options: dict[str, str], parameters: dict[str, str], verdict: str, words: str) -> ParameterSet:
    """Build what a cell of the case aer-endpoint-recovery asks too."""
    return pytest.param(options, parameters, "", verdict, words, marks=pytest.mark.extended)


@pytest.mark.seconds(15)
async def test_an_error_that_the_model_cannot_report_goes_by_the_guest_and_says_why(testbed_boot: BootFactory) -> None:
    async with testbed_boot("q35", parameters=_E1000E) as guest:
        await load_drivers(guest)
        unheard = await inject(guest, "dev1", "COMP_ABORT", route=Route.QEMU)
        assert unheard.verdict is InjectionVerdict.NOT_REPORTED
        assert "does not implement it" in unheard.reason
        # the device has it all the same, and the root port was told nothing
        assert unheard.after is not None
        assert unheard.after.device.latched(unheard.error)
        assert not unheard.after.root_was_told
        heard = await inject(guest, "dev1", "CmpltAbrt", header=(0, 1, 2, 3))
        assert (heard.verdict, heard.route) == (InjectionVerdict.INJECTED, Route.GUEST)
        assert "Device Control of 0000:01:00.0" in heard.choice
        assert heard.recovery is not None
        assert heard.recovery.states[-2:] == (RecoveryState.RESUME, RecoveryState.SUCCESSFUL)
        assert any("TLP Header: 00000000 00000001 00000002 00000003" in record.text for record in heard.log)


@pytest.mark.seconds(15)
async def test_severity_mask_and_refusal(testbed_boot: BootFactory) -> None:
    async with testbed_boot("q35", parameters=_E1000E) as guest:
        await load_drivers(guest)
        worse = await inject(guest, "rp1", "COMP_TIME", severity=_FATAL)
        assert (worse.verdict, worse.severity) == (InjectionVerdict.INJECTED, _FATAL)
        assert worse.recovery is not None
        assert RecoveryState.LINK_RESET in worse.recovery.states
        # QEMU would log the words with their bytes reversed
        logged = await inject(guest, "rp1", "COMP_ABORT", route=Route.QEMU, header=(0x11223344, 1, 2, 3))
        assert any("TLP Header: 11223344 00000001 00000002 00000003" in record.text for record in logged.log)
        # advisory non-fatal errors are masked by default
        for route in (Route.QEMU, Route.GUEST):
            masked = await inject(guest, "rp1", "ADV_NONFATAL", route=route)
            assert masked.verdict is InjectionVerdict.MASKED
            assert "Correctable Error Mask of 0000:00:02.0" in masked.reason
        nameless = await inject(guest, "rp1", "PoisonTLPBlocked", route=Route.QEMU)
        assert nameless.verdict is InjectionVerdict.REFUSED
        assert "Invalid argument" in nameless.reason


@pytest.mark.seconds(30)
async def test_errors_that_come_at_once_are_told_as_several(testbed_boot: BootFactory) -> None:
    parameters = {"hotplug": "native", "topology": "switch", "devices": ["e1000e"]}
    # correctable errors are sent by QEMU 8.0 and later, which have igb
    async with testbed_boot("q35", parameters=parameters, qemu=qemu_with("igb")) as guest:
        await load_drivers(guest)
        record = await inject(guest, "rp1", "RCVR+BAD_TLP", route=Route.QEMU)
        assert record.verdict is InjectionVerdict.INJECTED, record.reason
        assert any(each.observed.startswith("0x00000041") for each in record.findings)
        assert counted(record) == {"RxErr": "+1", "BadTLP": "+1", "aer_rootport_total_err_cor": "+1"}
        one = await inject_at_once(guest, ["rp1"], "RCVR", route=Route.QEMU)
        assert [each.observed for each in one.several] == ["one"]
        # three errors of one kind are one report: the status bit is there once
        three = await inject_at_once(guest, ["rp1"], "RCVR", count=3, route=Route.QEMU)
        assert [each.observed for each in three.several] == ["Multiple"]
        assert counted(three.injections[0]) == {"RxErr": "+1", "aer_rootport_total_err_cor": "+1"}
        both = await inject_at_once(guest, ["sw1p1", "sw1p2"], "BAD_DLLP")
        assert (both.heard, both.told) == (True, True)
        assert [counted(each)["BadDLLP"] for each in both.injections] == ["+1", "+1"]
        mixed = await inject(guest, "dev1", "RCVR+COMP_ABORT")
        assert (mixed.verdict, mixed.route) == (InjectionVerdict.INJECTED, Route.GUEST)
        assert counted(mixed) == {
            **{"RxErr": "+1", "CmpltAbrt": "+1"},
            **{"aer_rootport_total_err_cor": "+1", "aer_rootport_total_err_nonfatal": "+1"},
        }
        assert mixed.recovery is not None
        assert mixed.recovery.state is RecoveryState.SUCCESSFUL
        assert all(each.observed.startswith(each.expected) for each in mixed.counters)


def counted(injection: Injection) -> dict[str, str]:
    """Return by how much each counter went up: by a status bit's name, or a root port's file."""
    return {each.subject.split(" of ")[0].split()[-1]: each.observed.split(",")[0] for each in injection.counters}


@pytest.mark.seconds(10)
async def test_without_aer_in_the_guest_its_injector_is_refused(testbed_boot: BootFactory) -> None:
    async with testbed_boot("q35", parameters=_E1000E, cmdline="pci=noaer") as guest:
        refused = await inject(guest, "rp1", "COMP_TIME")
        assert (refused.verdict, refused.reason) == (InjectionVerdict.REFUSED, "AER device not found")


@pytest.mark.seconds(10)
async def test_what_cannot_have_an_error_is_told_before_anything_happens(testbed_boot: BootFactory) -> None:
    async with testbed_boot("q35", parameters={"devices": ["virtio-blk", "nvme", "e1000"]}) as guest:
        for device, words in (
            ("dev1", "has no AER"),
            ("dev2", "has no AER"),
            ("dev3", "has no AER"),
            ("dev9", "exist"),
        ):
            with pytest.raises(InputError, match=words):
                await inject(guest, device, "COMP_TIME")
        with pytest.raises(InputError, match="has no VFs"):
            await inject(guest, "dev1", "COMP_TIME", vf=0)
        with pytest.raises(InputError, match="no TLP prefix"):
            await inject(guest, "rp1", "COMP_TIME", route=Route.GUEST, prefix=(1, 0, 0, 0))


@pytest.mark.seconds(25)
@pytest.mark.parametrize(
    ("options", "parameters", "cmdline", "verdict", "words"),
    [
        ({"severity": "correctable"}, {}, "", "good", "announced by the guest"),
        _repeated({"severity": "fatal"}, {}, "good", "link reset → slot_reset → resume → successful"),
        _repeated({"severity": "fatal"}, {"hotplug": "acpi"}, "bad", "recovery failed"),
        _repeated({"route": "qemu"}, {}, "bad", "does not implement it"),
        ({}, {}, "pcie_aspm=off", "bad", "suspect: pcie_aspm=off"),
    ],
)
async def test_aer_recover_says_what_happened_and_why(
    options: dict[str, str],
    parameters: dict[str, str],
    cmdline: str,
    verdict: str,
    words: str,
    testbed_try: Judge,
) -> None:
    outcome = await testbed_try(
        "aer-recover", parameters={**_E1000E, **parameters}, cmdline=cmdline, options=options, start="fresh"
    )
    assert outcome.verdict == verdict, outcome.reason
    assert words in outcome.reason


@pytest.mark.seconds(25)
async def test_an_error_at_each_level_of_a_switch_is_that_levels(testbed_try: Judge) -> None:
    parameters = {**_E1000E, "topology": "switch"}
    outcome = await testbed_try("deep-switch-aer", parameters=parameters, start="fresh")
    assert outcome.verdict == "good", outcome.reason
    announced = [each.observed for each in outcome.findings if each.subject.startswith("injection into")]
    assert [words.rpartition(" from ")[2] for words in announced] == [
        *("0000:00:02.0", "0000:01:00.0", "0000:02:00.0", "0000:03:00.0")
    ]


@pytest.mark.seconds(15)
def test_the_command_prints_verdict_registers_and_log(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "testbed", "inject", "q35", "--device", "rp1", "--error", "COMP_TIME", "--json"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (injection,) = json.loads(result.stdout)["injections"]
    assert (injection["verdict"], injection["route"], injection["severity"]) == ("injected", "qemu", "non-fatal")
    assert injection["before"]["0000:00:02.0 Root Error Command"] == "0x00000007"
    # virtio devices have no error_detected callback
    assert injection["recovery"]["vetoes"][0]["device"] == "0000:01:00.0"
    assert any("Uncorrect" in line["text"] for line in injection["log"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "dev1", "--error", "COMP_ABRT"], "did you mean COMP_ABORT"),
        (["--device", "dv1", "--error", "COMP_ABORT"], "did you mean dev1?"),
        (["--device", "dev1", "--error", "0x1"], "name it RCVR"),
        (["--device", "dev1", "--error", "RCVR", "--severity", "fatal"], "is correctable"),
        (["--device", "dev1"], "--error COMP_ABORT"),
        (["--device", "dev1", "--error", "RCVR+RCVR"], "is given twice"),
        (["--device", "rp1", "--device", "rp1", "--error", "RCVR"], "is given twice"),
        (["--device", "dev1", "--error", "RCVR", "--count", "2", "--vf", "0"], "with --every SECONDS"),
        (["--device", "dev1", "--error", "RCVR", "--early", "--every", "1"], "--every needs a running guest"),
        (["--device", "dev1", "--error", "RCVR", "--count", "0"], "greater than or equal to 1"),
        (["--device", "dev1", "--error", "DLP", "--header", "0 1 2 3 4"], "four words"),
    ],
)
def test_wrong_input_is_told_before_a_machine_is_started(arguments: list[str], words: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "testbed", "inject", "q35", *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert words in " ".join(result.stderr.split())
    assert not (tmp_path / "testbed-runs").exists()


@pytest.mark.seconds(10)
def test_the_functions_of_a_running_machine_are_linted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "testbed", "pci", "lint", "--machine", "q35", "-p", "devices=e1000e", "--json"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stderr
    report = json.loads(result.stdout)
    assert report["functions"] >= 8
    assert report["not_checked"] == []
    assert any(note["rule"] == "error-reporting" for note in report["notes"])


@pytest.mark.extended
@pytest.mark.seconds(90)
async def test_a_read_that_hangs_after_a_failed_link_reset_is_blocked_and_no_crash(testbed_try: Judge) -> None:
    options = {"device": "rp1", "severity": "fatal"}
    outcome = await testbed_try("aer-recover", parameters={"devices": ["nvme"]}, options=options)
    assert (outcome.verdict, outcome.outcome) == ("bad", "blocked"), outcome.reason
    assert "'prove-disk dev1'" in outcome.reason
    task = outcome.findings[-1]
    assert "(D)" in task.subject
    assert "submit_bio_wait" in task.observed
    assert task.evidence.startswith("shell.jsonl:")


@pytest.mark.extended
@pytest.mark.seconds(25)
@pytest.mark.parametrize(
    ("cmdline", "words"), [("", "the guest has cleared the status of 0000:00:02.0"), ("pci=noaer", "CmpltTO still set")]
)
def test_an_error_before_the_guest_begins_is_cleared_without_a_word(cmdline: str, words: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "testbed", "inject", "q35", "--device", "rp1", "--error", "COMP_TIME", "--early"]
    command += ["--cmdline", cmdline, "--json"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stderr
    (injection,) = json.loads(result.stdout)["injections"]
    assert (injection["verdict"], injection["route"], injection["before"]) == ("not-reported", "qemu", {})
    assert words in injection["reason"]
    assert injection["counters"] == []


@pytest.mark.extended
@pytest.mark.seconds(20)
def test_errors_come_again_and_again_with_guest_seconds_between_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "testbed", "inject", "q35", "-p", "devices=e1000e", "--device", "rp1"]
    command += ["--error", "RCVR", "--count", "3", "--every", "1.5", "--json"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    injections = json.loads(result.stdout)["injections"]
    assert [each["verdict"] for each in injections] == ["injected"] * 3
    said = [line["seconds"] for each in injections for line in each["log"] if "AER: Corr" in line["text"]]
    assert len(said) == 3
    assert all(later - earlier >= 1.5 for earlier, later in itertools.pairwise(said))


@pytest.mark.extended
@pytest.mark.seconds(30)
@pytest.mark.parametrize(
    ("options", "cell", "outcome", "words"),
    [
        ({"severity": "correctable", "count": 3}, {}, "told", "on 3 messages: Multiple"),
        ({"severity": "correctable", "count": 1}, {}, "told", "on 1 message: one"),
        ({"severity": "correctable"}, {"cmdline": "pci=noaer"}, "unserved", "suspect: pci=noaer"),
    ],
)
async def test_several_at_once_are_judged(
    options: dict[str, object], cell: dict[str, str], outcome: str, words: str, testbed_try: Judge
) -> None:
    qemu = qemu_with("igb")
    judged = await testbed_try("aer-at-once", parameters=_E1000E, options=options, qemu=qemu, start="fresh", **cell)
    assert judged.outcome == outcome, judged.reason
    assert words in judged.reason
