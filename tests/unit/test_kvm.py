"""Whether KVM runs guests: how a canary's run reads, what mends what, and what is remembered."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.host import kvm
from testbed.host.accel import choose_accel
from testbed.host.cache import cache_folder
from testbed.host.canary import EXIT_STATUS, TICKS, UP, CanaryRun, first_words
from testbed.host.cpu import cpu_flags, cpu_identity
from testbed.host.mandatory_access import denial_hint
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.host.qemu import Qemu

BOTH = f"{UP}\n{TICKS}\n"


def ran(status: int | None, printed: str, words: str = "") -> CanaryRun:
    return CanaryRun(seconds=3.07, status=status, printed=printed, words=words)


ALIVE, TICKLESS = ran(EXIT_STATUS, BOTH), ran(None, f"{UP}\n")


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (ALIVE, "a guest printed, took timer ticks and exited within 3.1 s"),
        (TICKLESS, "a guest took no timer tick within 3.1 s"),
        (ran(None, ""), "a guest printed nothing within 3.1 s"),
        (ran(None, BOTH), "a guest did not exit within 3.1 s"),
        (ran(-6, "", "failed to set MSR"), "a guest printed nothing before QEMU ended with SIGABRT: failed to set MSR"),
        (ran(-40, f"{UP}\n"), "a guest took no timer tick before QEMU ended with signal 40"),
        (ran(0, f"{UP}\n"), "a guest took no timer tick before QEMU ended with status 0"),
        (ran(EXIT_STATUS, ""), f"a guest printed nothing before QEMU ended with status {EXIT_STATUS}"),
        (ran(1, BOTH), "a guest did not exit before QEMU ended with status 1"),
    ],
)
def test_a_run_says_how_far_the_guest_came(run: CanaryRun, told: str) -> None:
    assert str(run) == told
    assert run.alive is (run is ALIVE)


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        ("", ""),
        (
            "qemu: warning: host doesn't support pni\nKVM internal error. Suberror: 1\nextra\n",
            "KVM internal error. Suberror: 1",
        ),
        ("\nqemu: error: failed to set MSR\nqemu: ../kvm.c: Assertion\n", "failed to set MSR"),
        ("qemu: could not open 'x'\n", "could not open 'x'"),
    ],
)
def test_qemu_s_first_words_are_quoted_without_its_name(stderr: str, words: str) -> None:
    assert first_words(stderr, program="qemu") == words


@pytest.mark.parametrize(
    ("cpuinfo", "loaded", "hint"),
    [
        ("flags\t\t: fpu vmx ept\n", False, "modprobe kvm_intel"),
        ("processor: 0\nflags\t\t: fpu svm\n", False, "modprobe kvm_amd"),
        ("flags\t\t: fpu hypervisor\n", False, "nesting on the outer host"),
        ("flags\t\t: fpu hypervisor vmx\n", False, "modprobe kvm_intel"),
        ("flags\t\t: fpu\nvmx flags\t: vnmi\n", False, "in the firmware"),
        ("", False, "in the firmware"),
        ("flags\t\t: fpu vmx\n", True, "--device /dev/kvm"),
    ],
)
def test_a_missing_device_is_mended_where_it_is_lost(tmp_path: Path, cpuinfo: str, loaded: bool, hint: str) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert hint in kvm.missing_hint(cpu_flags(tmp_path / "cpuinfo"), loaded=loaded)


SELINUX, APPARMOR = "system_u:system_r:container_t:s0:c1", "docker-default (enforce)"


@pytest.mark.parametrize(
    ("enforce", "label", "hints"),
    [
        ("1", SELINUX, (SELINUX, "ausearch -m AVC")),
        ("0", SELINUX, ()),
        (None, f"{APPARMOR}\n", (APPARMOR, "journalctl -k")),
        (None, "unconfined\n", ()),
        (None, None, ()),
    ],
)
def test_a_denial_by_a_security_module_says_where_it_is_written_down(
    tmp_path: Path, enforce: str | None, label: str | None, hints: tuple[str, ...]
) -> None:
    for name, content in (("enforce", enforce), ("label", label)):
        if content is not None:
            (tmp_path / name).write_text(content)
    hint = denial_hint(tmp_path / "enforce", tmp_path / "label")
    assert bool(hint) is bool(hints)
    assert all(word in hint for word in hints)


def test_a_device_that_modes_allow_and_something_else_denies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch(mode=0o666)

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(kvm, "denial_hint", lambda: "SELinux is enforcing")
    refused = kvm.check_device(device)
    assert refused is not None
    assert refused.hint.startswith("SELinux is enforcing")
    monkeypatch.setattr(kvm, "denial_hint", lambda: "")
    refused = kvm.check_device(device)
    assert refused is not None
    assert "control group" in refused.hint
    assert "chgrp" not in refused.hint


def test_a_missing_device_is_told(tmp_path: Path) -> None:
    proof = kvm.check_device(tmp_path / "kvm")
    assert proof is not None
    assert "No such file" in proof.why
    assert proof.hint.endswith("or use --accel tcg")


def test_a_device_that_opens_is_no_refusal(tmp_path: Path) -> None:
    (tmp_path / "kvm").touch()
    assert kvm.check_device(tmp_path / "kvm") is None


@pytest.mark.parametrize(("mode", "hint"), [(0o660, "join the group"), (0o600, "sudo chgrp kvm")])
def test_a_closed_device_is_mended_by_its_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, hint: str
) -> None:
    device = tmp_path / "kvm"
    device.touch()
    node = os.stat_result((mode, 1, 1, 1, 0, 987_654, 0, 0, 0, 0))

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(Path, "stat", lambda _: node)
    proof = kvm.check_device(device)
    assert proof is not None
    assert "Permission denied" in proof.why
    assert hint in proof.hint


def test_a_busy_host_gets_more_time() -> None:
    assert kvm.canary_limit(0.1) < kvm.canary_limit(2)
    assert kvm.canary_limit(2) > 2


def test_a_changed_qemu_or_device_is_another_memory(tmp_path: Path) -> None:
    qemu, device = tmp_path / "qemu", tmp_path / "kvm"
    qemu.write_text("1")
    device.touch(mode=0o600)
    names = [kvm.memory_name(qemu, device), kvm.memory_name(qemu, device)]
    assert names[0] == names[1]
    os.utime(qemu, ns=(1, 1))
    names.append(kvm.memory_name(qemu, device))
    qemu.write_text("22")
    os.utime(qemu, ns=(1, 1))
    names.append(kvm.memory_name(qemu, device))
    device.chmod(0o660)
    names.append(kvm.memory_name(qemu, device))
    assert len(set(names)) == 4


class Canary:
    """Stands in for a canary under a KVM that this host cannot be made to have."""

    def __init__(self) -> None:
        self.under_kvm = ALIVE
        self.under_tcg = ALIVE
        self.runs: list[str] = []
        self.limits: list[float] = []

    def run(self, qemu: Qemu, accel: str, cpu: str, *, image: Path, limit: float) -> CanaryRun:
        self.runs.append(f"{accel} {cpu}")
        self.limits.append(limit)
        return self.under_kvm if accel == "kvm" else self.under_tcg

    def forget(self) -> None:
        """Start as a new process would."""
        self.runs.clear()
        kvm.prove_kvm.cache_clear()


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Canary:
    made = Canary()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "kvm")
    monkeypatch.setattr(kvm, "build_canary", lambda: tmp_path / "canary.elf")
    monkeypatch.setattr(kvm, "run_canary", made.run)
    (tmp_path / "kvm").touch()
    (tmp_path / "qemu").touch()
    return made


@pytest.fixture
def qemu(paper_qemu: Callable[..., Qemu], tmp_path: Path) -> Qemu:
    return paper_qemu(path=str(tmp_path / "qemu"))


PROVEN = ["tcg qemu64", "kvm host"]


def test_a_yes_is_remembered(canary: Canary, qemu: Qemu) -> None:
    assert choose_accel("auto", qemu).name == "kvm"
    assert canary.runs == PROVEN
    assert canary.limits[1] == kvm.canary_limit(ALIVE.seconds)
    canary.forget()
    accel = choose_accel("auto", qemu)
    assert accel.name == "kvm"
    assert "as an earlier check found" in accel.reason
    assert canary.runs == []


def test_a_no_is_remembered_for_a_while(canary: Canary, qemu: Qemu) -> None:
    canary.under_kvm = TICKLESS
    for _ in range(3):
        accel = choose_accel("auto", qemu)
        assert accel.name == "tcg"
        assert accel.reason == f"KVM: {kvm.DEVICE} opens, but {TICKLESS}"
    assert canary.runs == PROVEN
    proven = kvm.prove_kvm(qemu)
    canary.forget()
    canary.under_kvm = ALIVE
    assert choose_accel("auto", qemu).reason == f"KVM: {kvm.DEVICE} opens, but {TICKLESS}, as an earlier check found"
    assert kvm.prove_kvm(qemu).hint == proven.hint
    assert canary.runs == []


@pytest.mark.parametrize("passed", [3600, -3600], ids=["later", "clock set back"])
def test_a_no_is_not_believed_for_long(
    canary: Canary, qemu: Qemu, monkeypatch: pytest.MonkeyPatch, passed: float
) -> None:
    canary.under_kvm = TICKLESS
    assert choose_accel("auto", qemu).name == "tcg"
    canary.forget()
    canary.under_kvm = ALIVE
    now = time.time() + passed
    monkeypatch.setattr(time, "time", lambda: now)
    assert choose_accel("auto", qemu).name == "kvm"
    assert canary.runs == PROVEN


def test_who_insists_on_kvm_is_told_what_is_true_now(canary: Canary, qemu: Qemu) -> None:
    canary.under_kvm = TICKLESS
    choose_accel("auto", qemu)
    canary.forget()
    canary.under_kvm = ALIVE
    assert choose_accel("kvm", qemu).name == "kvm"
    canary.forget()
    assert choose_accel("auto", qemu).name == "kvm"
    assert canary.runs == [], "the new answer is the one that is remembered"


@pytest.mark.parametrize("content", ["", "yes", "[1]", '{"works": true}', '{"works": 1, "why": "", "what": 2}'])
def test_a_memory_that_makes_no_sense_is_none(canary: Canary, qemu: Qemu, content: str) -> None:
    choose_accel("auto", qemu)
    (memory,) = cache_folder("kvm").iterdir()
    memory.write_text(content)
    canary.forget()
    assert choose_accel("auto", qemu).name == "kvm"
    assert canary.runs == PROVEN


def test_a_qemu_that_may_not_open_the_device_is_told_as_such(canary: Canary, qemu: Qemu) -> None:
    canary.under_kvm = ran(1, "", "Could not access KVM kernel module: Permission denied")
    with pytest.raises(InputError, match="Permission denied") as caught:
        choose_accel("kvm", qemu)
    assert f"QEMU is not permitted to open {kvm.DEVICE}" in (caught.value.hint or "")
    assert "nesting" not in (caught.value.hint or "")


def test_cpu_and_kernel_tell_hosts_apart(tmp_path: Path) -> None:
    one = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 49\nflags\t\t: fpu svm\ncpu MHz\t\t: 2200.1\n\n"
    others = [one.replace("49", "50"), one.replace("fpu svm", "fpu"), one.replace("AMD", "Intel")]
    identities = []
    for number, text in enumerate((one, one.replace("2200.1", "1900"), f"{one}processor\t: 1\n", *others)):
        (tmp_path / str(number)).write_text(text)
        identities.append(cpu_identity(tmp_path / str(number)))
    assert identities[0] == identities[1] == identities[2]
    assert len({tuple(identity) for identity in identities}) == 4
    assert os.uname().release in identities[0]


def test_a_device_that_is_gone_is_not_overruled_by_memory(canary: Canary, qemu: Qemu) -> None:
    choose_accel("auto", qemu)
    canary.forget()
    kvm.DEVICE.unlink()
    assert choose_accel("auto", qemu).name == "tcg"
    assert canary.runs == []


def test_a_cache_that_cannot_be_written_costs_only_time(
    monkeypatch: pytest.MonkeyPatch, canary: Canary, qemu: Qemu
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(qemu.path))
    assert choose_accel("auto", qemu).name == "kvm"
    canary.forget()
    assert choose_accel("auto", qemu).name == "kvm"
    assert canary.runs == PROVEN


def test_nothing_is_said_of_kvm_where_the_canary_fails_under_tcg(canary: Canary, qemu: Qemu) -> None:
    canary.under_tcg = TICKLESS
    accel = choose_accel("auto", qemu)
    assert accel.name == "tcg"
    assert "cannot be proven: under TCG, a guest took no timer tick" in accel.reason
    assert canary.runs == ["tcg qemu64"]


def test_a_host_without_a_compiler_runs_on_tcg(monkeypatch: pytest.MonkeyPatch, canary: Canary, qemu: Qemu) -> None:
    def unbuilt() -> Path:
        raise BedError("running gcc: not found on this host", hint="apt-get install gcc")

    monkeypatch.setattr(kvm, "build_canary", unbuilt)
    accel = choose_accel("auto", qemu)
    assert (accel.name, accel.reason) == ("tcg", "KVM: cannot be proven: running gcc: not found on this host")
    with pytest.raises(InputError) as caught:
        choose_accel("kvm", qemu)
    assert caught.value.hint == "apt-get install gcc"


def test_kvm_that_was_asked_for_must_work(canary: Canary, qemu: Qemu) -> None:
    canary.under_kvm = TICKLESS
    with pytest.raises(InputError, match="opens, but a guest took no timer tick") as caught:
        choose_accel("kvm", qemu)
    assert caught.value.hint is not None
    assert "--accel tcg" in caught.value.hint
    canary.forget()
    canary.under_kvm = ALIVE
    assert choose_accel("kvm", qemu).reason.startswith("asked for; ")


def test_tcg_asks_nobody(canary: Canary, qemu: Qemu) -> None:
    accel = choose_accel("tcg", qemu)
    assert str(accel) == "tcg (asked for)"
    assert (accel.cpu("auto"), accel.cpu("Nehalem")) == ("qemu64", "Nehalem")
    assert canary.runs == []


def test_an_unknown_accelerator_is_refused(qemu: Qemu) -> None:
    with pytest.raises(InputError, match="'hvf' does not exist"):
        choose_accel("hvf", qemu)
