"""Rundirs as runs leave them, written by hand: outcomes, journals and kernel logs of guests that never ran."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from testbed.model.outcome import Finding, Outcome, Role, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

#: lines of a boot as many as a Debian kernel prints; the numbers in them differ from guest to guest
_SUBSYSTEMS = (
    "ACPI",
    "PCI",
    "clocksource",
    "pci 0000:00:02.0",
    "usbcore",
    "NET",
    "workingset",
    "Freeing",
    "rcu",
    "SMP",
)
BOOT_LINES = 400


def write_rundir(
    folder: Path,
    *,
    scenario: str = "disk-unplug",
    machine: str = "q35",
    cmdline: str = "",
    verdict: Verdict = Verdict.GOOD,
    expected: Verdict | None = None,
    said: Sequence[str] = ("pcieport 0000:00:02.0: pciehp: Slot(1): Attention button pressed",),
    lines: int = BOOT_LINES,
    **changed: Any,
) -> Outcome:
    """Write a rundir of a guest that was booted, given `device_del`, and then said what `said` says."""
    folder.mkdir(parents=True)
    outcome = _outcome(folder, scenario, machine, cmdline, verdict, expected, lines + 1)
    outcome = outcome.model_copy(update=changed)
    (folder / "outcome.json").write_text(outcome.model_dump_json(indent=1) + "\n")
    (folder / "machine.yaml").write_text("machine_type: q35\n")
    _write_kernel_log(folder, lines, said, seed=str(folder.name))
    _write_lines(folder / "clock.jsonl", _clock(lines, len(said)))
    _write_lines(folder / "qmp.jsonl", _qmp(verdict))
    _write_lines(folder / "shell.jsonl", _shell(verdict))
    (folder / "console.log").write_text("SeaBIOS (version 1.16.2)\r\n")
    return outcome


def _outcome(
    folder: Path, scenario: str, machine: str, cmdline: str, verdict: Verdict, expected: Verdict | None, line: int
) -> Outcome:
    good = verdict is Verdict.GOOD
    findings = (
        Finding(
            subject="QMP event",
            expected="DEVICE_DELETED",
            observed="DEVICE_DELETED after 6.4 s" if good else "none in 30 s",
            evidence="qmp.jsonl:4",
        ),
        Finding(subject="slot driver", expected="a word", observed="a word", evidence=f"kernel.log:{line}"),
    )
    return Outcome(
        id=" ".join(filter(None, (scenario, machine, cmdline))),
        scenario=scenario,
        machine=machine,
        machine_type=machine,
        parameters={"hotplug": "native", "ports": 4},
        cmdline=cmdline,
        kernel_cmdline=f"console=ttyS0 {cmdline}".rstrip(),
        image="debian 0123456789ab",
        kernel="linux-image-6.1.0-1-amd64 6.1.1-1",
        qemu="/usr/bin/qemu-system-x86_64 7.2.22",
        cpu="qemu64",
        accel="tcg",
        verdict=verdict,
        outcome="deleted" if good else "ignored",
        expected=expected,
        role=Role.EXTRA,
        reason="released after 6.4 s" if good else "the guest ignored the request",
        findings=findings,
        guest_seconds=6.4 if good else 30.0,
        wall_seconds=7.25,
        rundir=str(folder),
    )


def _write_kernel_log(folder: Path, lines: int, said: Sequence[str], *, seed: str) -> None:
    """Write a boot with stamps of its own, and then what was said from 8 s on."""
    chance = random.Random(seed)
    stamps = sorted(chance.uniform(0, 6) for _ in range(lines))
    boot = (
        f"<6>[{stamp:12.6f}] {_SUBSYSTEMS[n % len(_SUBSYSTEMS)]}: step {n} is done, {chance.randrange(3)} left"
        for n, stamp in enumerate(stamps)
    )
    after = (f"<4>[{8 + n / 10:12.6f}] {text}" for n, text in enumerate(said))
    (folder / "kernel.log").write_text("\n".join([*boot, *after]) + "\n")


def _clock(lines: int, said: int) -> Iterable[dict[str, Any]]:
    if lines:
        yield {"wall_seconds": 4.0, "kernel_log": {"first": 1, "last": lines, "guest_seconds": 6.2}}
    if said:
        yield {"wall_seconds": 5.128, "kernel_log": {"first": lines + 1, "last": lines + said, "guest_seconds": 8.5}}


def _qmp(verdict: Verdict) -> Iterable[dict[str, Any]]:
    yield {"wall_seconds": 0.066, "command": {"execute": "cont"}}
    yield {"wall_seconds": 0.067, "return": {}}
    yield {"wall_seconds": 5.119, "command": {"execute": "device_del", "arguments": {"id": "dev1"}}}
    yield {"wall_seconds": 5.125, "return": {}}
    if verdict is Verdict.GOOD:
        yield {"wall_seconds": 5.651, "event": {"event": "DEVICE_DELETED", "data": {"device": "dev1"}}}


def _shell(verdict: Verdict) -> Iterable[dict[str, Any]]:
    command = "prove-disk dev1"
    yield {"wall_seconds": 4.1, "started": {"command": command, "guest_seconds": 6.2}}
    ended = {"command": command, "status": 0, "output": "vda\n", "guest_seconds": 6.3}
    yield {"wall_seconds": 4.2, "ended": ended}
    yield {"wall_seconds": 5.112, "stimulus": {"request": "device_del dev1", "guest_seconds": 6.3}}
    path = {"path": "/sys/bus/pci/devices/0000:01:00.0", "exists": verdict is not Verdict.GOOD}
    yield {"wall_seconds": 5.652, "path": {**path, "guest_seconds": 14.5}}


def _write_lines(path: Path, values: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
