"""UEFI: a guest that OVMF starts by the kernel's EFI stub, with variables of its own, fresh and resumed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.campaign.cell.start import start_key
from testbed.host.firmware import find_ovmf
from testbed.machine.argv import FIRMWARE_LOG, VARIABLES
from testbed.model.errors import LackingError
from tests.guest.conftest import prepared
from tests.guest.test_reproduce import output_of

if TYPE_CHECKING:
    from testbed.host.firmware import Firmware
    from testbed.pytest_plugin import Judge

#: what the guest writes to the debug port, as a firmware does that keeps a log
WORDS = b"spoken"
SEES_UEFI = f'''\
from testbed.api import Finding, Judgement, Trial, Verdict, scenario


@scenario()
async def sees_uefi(trial: Trial) -> Judgement:
    """Does the guest see UEFI, and may it write to an I/O port?"""
    trial.stimulus("/sys/firmware/efi")
    shell = trial.guest.shell
    seen = await shell.run("cat /sys/firmware/efi/fw_platform_size")
    for letter in "{WORDS.decode()}":
        await shell.succeed(f"printf {{letter}} | dd of=/dev/port bs=1 seek=$((0x402)) 2>/dev/null")
    finding = Finding(subject="efi", expected="64", observed=seen.text or seen.error, evidence=seen.evidence)
    verdict = Verdict.GOOD if seen.text == "64" else Verdict.BAD
    return Judgement(verdict=verdict, outcome="seen", reason=finding.observed, findings=(finding,))
'''


@pytest.fixture
def ovmf() -> Firmware:
    """Return the host's OVMF."""
    try:
        return find_ovmf("q35")
    except LackingError as lacking:
        pytest.skip(f"{lacking} ({lacking.remedy})")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.seconds(25)
async def test_a_guest_of_ovmf_sees_uefi_and_its_variables_are_the_runs_own(
    testbed_try: Judge, ovmf: Firmware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTBED_SNAPSHOTS", str(tmp_path / "snapshots"))
    (tmp_path / "sees_uefi.py").write_text(SEES_UEFI)
    question = str(tmp_path / "sees_uefi.py")
    before = (_sha256(ovmf.code), _sha256(ovmf.variables))
    fresh = await testbed_try(question, "q35", parameters={"firmware": "ovmf"})
    warm = await testbed_try(question, "q35", parameters={"firmware": "ovmf"})
    for outcome in (fresh, warm):
        assert outcome.verdict == "good", outcome.reason
        assert outcome.boot == "efi"
        assert (Path(outcome.rundir) / VARIABLES).stat().st_size == ovmf.variables.stat().st_size
        assert (Path(outcome.rundir) / FIRMWARE_LOG).read_bytes().endswith(WORDS)
    assert (fresh.start, warm.start) == ("fresh", "warm")
    assert _sha256(Path(fresh.rundir) / VARIABLES) != before[1], "OVMF has written its boot options"
    assert (_sha256(ovmf.code), _sha256(ovmf.variables)) == before, "into the run's copy, not into the host's file"


@pytest.mark.extended
@pytest.mark.seconds(60)
async def test_a_person_repeats_what_a_guest_of_ovmf_did(testbed_try: Judge, ovmf: Firmware) -> None:
    outcome = await testbed_try("disk-plug", "q35[hotplug=native]", parameters={"firmware": "ovmf"})
    assert outcome.verdict == "good", outcome.reason
    before = (_sha256(ovmf.code), _sha256(ovmf.variables))
    shown = await output_of(Path(outcome.rundir) / "reproduce.sh")
    assert '"device_add"' in shown
    assert "the device is there after" in shown
    assert (_sha256(ovmf.code), _sha256(ovmf.variables)) == before


def test_a_saved_guest_is_of_one_firmware(ovmf: Firmware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        start_key(prepared("disk-plug", parameters={"firmware": kind, "start": "bzimage"}))
        for kind in ("seabios", "ovmf")
    }
    changed = tmp_path / "variables.fd"
    changed.write_bytes(ovmf.variables.read_bytes()[::-1])
    other = type(ovmf)(code=ovmf.code, variables=changed)
    monkeypatch.setattr("testbed.campaign.prepared.find_ovmf", lambda _: other)
    keys.add(start_key(prepared("disk-plug", parameters={"firmware": "ovmf"})))
    assert len(keys) == 3
    assert None not in keys
