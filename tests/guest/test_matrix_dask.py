"""A matrix on two Dask workers, one of which is killed while it runs a guest; an atlas on one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.campaign.matrix.results import RESULTS, recorded_runs
from testbed.model.atlas import AtlasReport
from testbed.model.outcome import CaseResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest.importorskip("distributed")

_SECONDS = 300.0


class Cluster:
    """A scheduler and workers on this host, started as docs/matrix.md shows it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        address = folder / "scheduler.json"
        places = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
        self._start("scheduler", *places, "--scheduler-file", str(address))
        wait_for(lambda: address.is_file() and bool(address.read_text()))
        self.address = str(json.loads(address.read_text())["address"])

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        """Start a worker, with a store of saved guests of its own, as one on another host has."""
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", name)
        local = ("--local-directory", str(self._folder / name))
        snapshots = str(self._folder / f"snapshots-{name}")
        return self._start("worker", self.address, *options, *local, TESTBED_SNAPSHOTS=snapshots)

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )
        self._processes.append(process)
        return process


def wait_for(condition: Callable[[], bool], seconds: float = _SECONDS) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    started = Cluster(tmp_path)
    yield started
    started.stop()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "testbed", "matrix", *arguments]


def children(pid: int) -> list[int]:
    """Return the processes that any thread of a process has started."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def is_guest(pid: int) -> bool:
    """Return whether a process is a QEMU with a guest, not one that is only asked what it can do."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return Path(words[0].decode()).name.startswith("qemu-system") and b"-kernel" in words


@pytest.mark.extended
@pytest.mark.seconds(60)
def test_the_cells_of_a_killed_worker_run_elsewhere_each_counted_once(tmp_path: Path, cluster: Cluster) -> None:
    doomed, other = cluster.worker("doomed"), cluster.worker("other")
    (tmp_path / "asks.py").write_text(
        '''\
from testbed.api import Finding, Judgement, Trial, Verdict, scenario


@scenario()
async def asks(trial: Trial) -> Judgement:
    """Does a scenario of the user's travel?"""
    seen = await trial.guest.shell.run("nproc")
    finding = Finding(subject="nproc", expected="1", observed=seen.text, evidence=seen.evidence)
    return Judgement(verdict=Verdict.GOOD, outcome="asked", reason=f"{seen.text} CPU", findings=(finding,))
'''
    )
    arguments = (
        *("asks.py", "disk-unplug", "-m", "i440fx", "-m", "q35", "--cmdline", "", "--cmdline", "quiet"),
        *("--accel", "tcg", "--json", "result.json", "--workers", f"dask:{cluster.address}"),
    )
    process = subprocess.Popen(
        command(*arguments), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(lambda: any(is_guest(pid) for pid in children(doomed.pid)) or process.poll() is not None)
    guests = [pid for pid in children(doomed.pid) if is_guest(pid)]
    assert guests
    doomed.send_signal(signal.SIGKILL)
    doomed.wait()
    wait_for(lambda: not any(map(is_guest, guests)), 10)
    out, _ = process.communicate(timeout=_SECONDS)
    assert process.returncode == 0, out
    assert "is gone; 1 of its cells go to others" in out, out
    report = json.loads((tmp_path / "result.json").read_text())
    assert report["complete"]
    assert [cell["verdict"] for cell in report["cells"]] == ["good"] * 8
    (results,) = tmp_path.glob(f"testbed-runs/*/{RESULTS}")
    indices = [json.loads(line)["index"] for line in results.read_text().splitlines()]
    assert sorted(indices) == list(range(8)), "nothing lost, nothing twice"
    for cell in report["cells"]:
        rundir = Path(cell["rundir"])
        assert rundir.is_relative_to(tmp_path)
        assert "run by tcp://" in cell["note"]
        assert {"kernel.log", "qmp.jsonl", "reproduce.sh", "machine.yaml"} <= {path.name for path in rundir.iterdir()}
        assert not list(rundir.glob("*.raw"))
    assert other.poll() is None


@pytest.mark.extended
@pytest.mark.seconds(60)
def test_a_worker_that_joins_late_takes_cells_of_those_that_wait(tmp_path: Path, cluster: Cluster) -> None:
    first = cluster.worker("first")
    arguments = (
        *("disk-present", "-m", "i440fx", "-m", "q35", "--cmdline", "", "--cmdline", "quiet", "--repeat", "3"),
        *("--accel", "tcg", "--fresh", "--json", "result.json", "--workers", f"dask:{cluster.address}"),
    )
    process = subprocess.Popen(
        command(*arguments), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(lambda: any(is_guest(pid) for pid in children(first.pid)) or process.poll() is not None)
    cluster.worker("late")
    out, _ = process.communicate(timeout=_SECONDS)
    assert process.returncode == 0, out
    (results,) = tmp_path.glob(f"testbed-runs/*/{RESULTS}")
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert len({(line["index"], line.get("repeat")) for line in lines}) == len(lines) == 12, "each once"
    ran = Counter(json.loads(path.read_text())["note"] for path in tmp_path.rglob("outcome.json"))
    assert len(ran) == 2, ran
    assert min(ran.values()) >= 3, ran


STEPS = """\
question: Does a card that is added get its driver?
options: {bus: {type: str, default: rp2, doc: where it is added}}
modules: [virtio_net]
steps:
  - stimulus: plug virtio-net on {{bus}} id=late
  - expect: {path: late/driver, holds: virtio-pci$}
"""


@pytest.mark.extended
@pytest.mark.seconds(60)
def test_a_scenario_of_steps_travels_to_a_worker(tmp_path: Path, cluster: Cluster) -> None:
    cluster.worker("one")
    (tmp_path / "late.yaml").write_text(STEPS)
    axes = ("-m", "q35[hotplug=native]", "--cmdline", "", "--cmdline", "pcie_aspm=off", "--accel", "tcg")
    done = subprocess.run(
        command("late.yaml[bus=rp3]", *axes, "--json", "result.json", "--workers", f"dask:{cluster.address}"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    cells = json.loads((tmp_path / "result.json").read_text())["cells"]
    assert {cell["cmdline"]: (cell["verdict"], cell["outcome"]) for cell in cells} == {
        "": ("good", "as-expected"),
        "pcie_aspm=off": ("bad", "ignored"),
    }
    assert all("run by tcp://" in cell["note"] for cell in cells)
    assert all(cell["options"] == {"bus": "rp3"} for cell in cells)


@pytest.mark.seconds(30)
def test_an_interrupt_ends_the_guests_of_the_workers(tmp_path: Path, cluster: Cluster) -> None:
    worker = cluster.worker("one")
    arguments = ("disk-unplug", "-m", "i440fx", "--accel", "tcg", "--repeat", "50", "--fresh")
    process = subprocess.Popen(
        command(*arguments, "--workers", f"dask:{cluster.address}"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(lambda: any(is_guest(pid) for pid in children(worker.pid)) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "resume: testbed matrix --resume" in out
    wait_for(lambda: not any(is_guest(pid) for pid in children(worker.pid)), 30)
    assert worker.poll() is None


@pytest.mark.seconds(10)
@pytest.mark.parametrize(
    ("workers", "message"),
    [
        ("dask:tcp://127.0.0.1:1", "cannot be reached"),
        ("dask:127.0.0.1", "is not a cluster"),
        ("mpi:x", "is not a cluster"),
    ],
)
def test_a_scheduler_that_is_not_there_is_told_soon(tmp_path: Path, workers: str, message: str) -> None:
    result = subprocess.run(
        command("disk-unplug", "--workers", workers), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.seconds(10)
def test_a_cluster_without_workers_is_told(tmp_path: Path, cluster: Cluster) -> None:
    result = subprocess.run(
        command("disk-unplug", "--workers", f"dask:{cluster.address}"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert f"dask worker {cluster.address}" in result.stderr


@pytest.mark.extended
@pytest.mark.seconds(60)
def test_an_atlas_runs_on_workers_as_a_matrix_does(tmp_path: Path, cluster: Cluster) -> None:
    cluster.worker("one")
    case = "expander-ports-stay-native"
    arguments = (case, "--qemu", "qemu-system-x86_64", "--no-fetch", "--json", "atlas.json", "--page", "atlas.html")
    done = subprocess.run(
        [sys.executable, "-m", "testbed", "atlas", *arguments, "--workers", f"dask:{cluster.address}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = AtlasReport.model_validate_json((tmp_path / "atlas.json").read_text())
    assert (report.complete, report.cells) == (True, 3)
    assert [result.result for result in report.cases[0].results] == [CaseResult.REPRODUCED]
    assert '<td class="said good">✓ yes</td>' in (tmp_path / "atlas.html").read_text()
    (rundir,) = tmp_path.glob("testbed-runs/*")
    assert all("run by tcp://" in run.outcome.note for run in recorded_runs(rundir))
