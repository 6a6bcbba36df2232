"""No QEMU outlives the bed, whatever kills the bed and whenever; and a bed that can still tidy up does."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from testbed.host.qemu import find_qemu
from testbed.image.store import find_image
from testbed.model.errors import QemuLostError
from tests.signals import heed_signals
from tests.waiting import PATIENCE, eventually

from .conftest import processes_naming, tiny_boot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from testbed.host.host import LocalHost

    from .conftest import LaunchMachine

LAUNCH = """
import asyncio, sys
from pathlib import Path
from testbed.host.accel import Accel
from testbed.host.host import LocalHost
from testbed.host.qemu import find_qemu
from testbed.machine.argv import Boot
from testbed.machine.launch import launch
from testbed.machine.template import load_template

async def main():
    folder = Path(sys.argv[1])
    boot = Boot(kernel=folder / "kernel", initramfs=folder / "initramfs", cmdline="console=ttyS0")
    spec = load_template("q35").spec({"ports": 1, "memory": 128})
    async with LocalHost() as host:
        async with launch(
            spec,
            boot,
            host=host,
            qemu=find_qemu(),
            accel=Accel(name="tcg", reason="asked for"),
            rundir=folder / "run",
        ) as machine:
            await machine.qmp.execute("cont")
            await machine.console.expect("never")

asyncio.run(main())
"""

#: a scenario that is still running whenever the signal comes
ENDLESS = """
import asyncio
from testbed.scenarios.scenario import scenario

@scenario()
async def endless(trial):
    'Does it ever end?'
    await trial.guest.shell.run("true")
    await asyncio.Event().wait()
"""


@contextlib.contextmanager
def bed(tmp_path: Path, *command: str, qemu: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a bed of its own session, with its temporary files in `tmp_path/tmp`."""
    (tmp_path / "tmp").mkdir()
    chosen = {"TESTBED_QEMU": str(qemu)} if qemu else {}
    environment = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
    with subprocess.Popen(
        [sys.executable, *command],
        env={**environment, **chosen, "TMPDIR": str(tmp_path / "tmp")},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_signals,  # noqa: PLW1509 - no thread of these tests holds a lock
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def machines(tmp_path: Path) -> list[int]:
    """Return the QEMUs whose sockets or disks lie below `tmp_path`."""
    return [pid for pid in processes_naming(f"{tmp_path}/") if "-S" in arguments(pid)]


def arguments(pid: int) -> list[str]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:  # noqa: PTH123
        return file.read().split("\0")
    return []


def written(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def come_to(file: str, tmp_path: Path) -> bool:
    """Return whether a run has written something to this file of its rundir."""
    return any(map(written, tmp_path.glob(f"runs/*/*/*/{file}")))


#: what is seen from outside when a machine has come so far
MOMENTS: dict[str, Callable[[Path], object]] = {
    "listening": lambda run: list((run.parent / "tmp").glob("testbed-*/*.qmp")),
    "asked for": lambda run: (run / "argv.json").exists(),
    "started": lambda run: machines(run.parent),
    "connected": lambda run: (run / "console.log").exists(),
    "greeted": lambda run: written(run / "qmp.jsonl"),
    "running": lambda run: "RESUME" in ((run / "qmp.jsonl").read_text() if (run / "qmp.jsonl").exists() else ""),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_bed_that_is_killed_leaves_no_qemu(tmp_path: Path, moment: str) -> None:
    tiny_boot(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    with bed(tmp_path, "-c", LAUNCH, str(tmp_path)) as process:
        assert eventually(lambda: MOMENTS[moment](run) or process.poll() is not None)
        assert process.poll() is None
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert eventually(lambda: not machines(tmp_path))


#: a QEMU as users have it: behind a script that does more than to become it
WRAPPERS = {
    "waits": 'exec 3<&0; {qemu} "$@" <&3 & wait',
    "calls": '{qemu} "$@"; exit $?',
    "session": 'exec 3<&0; setsid {qemu} "$@" <&3 & wait',
}


def wrapped(tmp_path: Path, wrapper: str) -> Path:
    """Return a script in place of a QEMU."""
    script = tmp_path / "wrapped-qemu"
    script.write_text(f"#!/bin/sh\n{WRAPPERS[wrapper].format(qemu=shutil.which('qemu-system-x86_64'))}\n")
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_bed_that_is_killed_leaves_no_qemu_behind_a_wrapper(tmp_path: Path, wrapper: str) -> None:
    tiny_boot(tmp_path)
    (tmp_path / "run").mkdir()
    with bed(tmp_path, "-c", LAUNCH, str(tmp_path), qemu=wrapped(tmp_path, wrapper)) as process:
        assert eventually(lambda: MOMENTS["running"](tmp_path / "run") or process.poll() is not None)
        assert process.poll() is None
        assert len(machines(tmp_path)) > 1  # the script and its QEMU
        process.kill()
        process.wait()
        assert eventually(lambda: not machines(tmp_path))


async def test_a_qemu_goes_when_its_wrapper_has_gone_before(
    tmp_path: Path, host: LocalHost, launched: LaunchMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTBED_QEMU", str(wrapped(tmp_path, "session")))
    async with launched(qemu=find_qemu()) as machine:
        assert len(machines(tmp_path)) > 1
        os.kill(machine.process.pid, signal.SIGKILL)
        with pytest.raises(QemuLostError):
            await machine.console.expect("never")
    assert machines(tmp_path) == []


def test_a_qemu_that_is_asked_goes_with_a_bed_that_is_killed(tmp_path: Path) -> None:
    silent = tmp_path / "silent-qemu"
    silent.write_text(f"#!/bin/sh\nsetsid sleep 1000 & echo $! >{tmp_path}/child; wait\n")
    silent.chmod(0o755)
    with bed(tmp_path, "-c", "from testbed.host.qemu import find_qemu; find_qemu()", qemu=silent) as process:
        assert eventually(lambda: written(tmp_path / "child"))
        child = int((tmp_path / "child").read_text())
        assert arguments(child)
        process.kill()
        process.wait()
    assert eventually(lambda: not any(arguments(child)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("moment", ["argv.json", "console.log", "qmp.jsonl", "shell.jsonl"])
def test_a_run_that_is_told_to_end_tidies_up(tmp_path: Path, moment: str, number: signal.Signals) -> None:
    if find_image("debian") is None:
        pytest.skip("image debian is not built: testbed image build debian")
    code = "from testbed.cli import main; main()"
    (tmp_path / "endless.py").write_text(ENDLESS)
    with bed(tmp_path, "-c", code, "run", "endless.py", "--rundir", str(tmp_path / "runs")) as process:
        assert eventually(lambda: come_to(moment, tmp_path) or process.poll() is not None)
        assert process.poll() is None
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        assert "Traceback" not in errors
        assert machines(tmp_path) == []
        assert list((tmp_path / "tmp").iterdir()) == []
        assert list(tmp_path.glob("runs/*/*/*/outcome.json")) == []
        assert "interrupted: all machines ended" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_build_that_is_told_to_end_tidies_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    slow = tmp_path / "slow-gcc"
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *-print-*) exit 1; esac\ntouch "$TMPDIR/cc.s" {tmp_path}/compiling\nexec sleep 1000\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv("CC", str(slow))
    # the canary is the first thing that this cache has compiled
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    code = "from testbed.cli import main; main()"
    with bed(tmp_path, "-c", code, "doctor") as process:
        assert eventually(lambda: (tmp_path / "compiling").exists() or process.poll() is not None)
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert [path for place in ("tmp", "cache") for path in (tmp_path / place).rglob("cc.s")] == []


@pytest.mark.parametrize(("ignored", "heeded"), [("SIGHUP", ["SIGTERM"]), ("SIGINT", ["SIGTERM", "SIGHUP"])])
def test_a_signal_that_nohup_has_ignored_ends_nothing(ignored: str, heeded: list[str]) -> None:
    code = "from testbed.cli.terminations import terminations; print(*(each.name for each in terminations()))"
    done = subprocess.run(
        ["sh", "-c", f'trap "" {ignored.removeprefix("SIG")}; exec "$@"', "sh", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=heed_signals,
    )
    assert done.stdout.split() == heeded
