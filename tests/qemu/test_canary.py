"""The canary really runs; a broken one ends at its limit; `auto` and `kvm` say what a canary under KVM says."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from testbed.host import kvm
from testbed.host.accel import choose_accel
from testbed.host.canary import EXIT_STATUS, TICKS, UP, CanaryRun, build_canary, run_canary
from testbed.host.containment import own_user
from testbed.host.host import contained_child
from testbed.host.kvm import FAST_CPU, canary_limit, check_device
from testbed.model.errors import InputError
from tests.qemu.conftest import RESET, multiboot, processes_naming, says
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.host.qemu import Qemu

PATIENCE = 60
FOREVER = bytes.fromhex("eb fe")  # jmp to itself


def run_under(qemu: Qemu, accel: str, image: Path, limit: float = PATIENCE) -> CanaryRun:
    return run_canary(qemu, accel, FAST_CPU[accel], image=image, limit=limit)


@pytest.fixture
def under_tcg(qemu: Qemu) -> CanaryRun:
    return run_under(qemu, "tcg", build_canary())


def test_it_prints_ticks_and_exits(under_tcg: CanaryRun) -> None:
    assert under_tcg.alive, str(under_tcg)
    assert under_tcg.printed.splitlines() == [UP, TICKS]
    assert under_tcg.status == EXIT_STATUS


def test_it_is_assembled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = build_canary()
    monkeypatch.setenv("CC", "false")
    assert build_canary() == first
    assert list(first.parent.iterdir()) == [first]


def test_one_without_ticks_ends_at_its_limit(qemu: Qemu, under_tcg: CanaryRun, tmp_path: Path) -> None:
    image = tmp_path / "canary"
    image.write_bytes(multiboot(says(f"{UP}\n", then=FOREVER)))
    run = run_under(qemu, "tcg", image, limit=canary_limit(under_tcg.seconds))
    assert (run.alive, run.status) == (False, None)
    assert "took no timer tick" in str(run)
    assert processes_naming(image) == []


def test_a_guest_that_falls_over_is_not_alive(qemu: Qemu, tmp_path: Path) -> None:
    image = tmp_path / "canary"
    image.write_bytes(multiboot(says(f"{UP}\n", then=RESET)))
    run = run_under(qemu, "tcg", image)
    assert (run.alive, run.status) == (False, 0)


def test_a_qemu_that_refuses_is_quoted(qemu: Qemu, tmp_path: Path) -> None:
    run = run_under(qemu, "tcg", tmp_path / "none")
    assert not run.alive
    assert str(tmp_path / "none") in str(run)


LOOPS = """
import sys
from pathlib import Path
from testbed.host.canary import run_canary
from testbed.host.qemu import find_qemu

run_canary(find_qemu(), "tcg", "qemu64", image=Path(sys.argv[1]), limit=600)
"""


def test_it_dies_with_its_test_bed(tmp_path: Path) -> None:
    image = tmp_path / "canary"
    image.write_bytes(multiboot(FOREVER))
    with subprocess.Popen([sys.executable, "-c", LOOPS, image]) as bed:
        assert eventually(lambda: len(set(processes_naming(image)) - {bed.pid}) == 1)
        bed.kill()
    assert eventually(lambda: processes_naming(image) == [])


SAYS_WHO = "#!/bin/sh\necho uid $(id -u) >&2\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give QEMU a user of its own")
def test_it_runs_as_the_user_a_machine_would(qemu: Qemu, tmp_path: Path) -> None:
    program, image = tmp_path / "qemu", tmp_path / "canary"
    program.write_text(SAYS_WHO)
    program.chmod(0o755)
    image.touch()
    tmp_path.chmod(0o755)
    # QEMU of a prefix is not looked after by its own path
    run = run_under(replace(qemu, copy=(str(program), "-L", str(tmp_path))), "tcg", image)
    if "uid 0" in run.words:
        pytest.skip(str(contained_child([str(program), "-L", str(tmp_path)])[1]))
    assert run.words == f"uid {own_user()}"


@pytest.fixture
def kvm_works(qemu: Qemu, under_tcg: CanaryRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bool:
    """Return what a canary says here, with nothing remembered."""
    image = build_canary()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kvm.prove_kvm.cache_clear()
    opens = check_device(kvm.DEVICE) is None
    return opens and run_under(qemu, "kvm", image, limit=canary_limit(under_tcg.seconds)).alive


def test_auto_is_what_the_canary_says(qemu: Qemu, kvm_works: bool) -> None:
    accel = choose_accel("auto", qemu)
    assert accel.name == ("kvm" if kvm_works else "tcg")
    assert accel.cpu("auto") == ("host" if kvm_works else "qemu64")
    assert accel.reason.startswith("a guest printed" if kvm_works else f"KVM: {kvm.DEVICE}")


def test_kvm_that_does_not_work_is_refused(qemu: Qemu, kvm_works: bool) -> None:
    if kvm_works:
        assert choose_accel("kvm", qemu).name == "kvm"
        return
    with pytest.raises(InputError, match=str(kvm.DEVICE)) as caught:
        choose_accel("kvm", qemu)
    assert caught.value.hint is not None
    assert "--accel tcg" in caught.value.hint
