"""One's own templates, recipes, scenarios and cases, used from an installed wheel in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("wheel")

TEMPLATE = """\
description: a bare q35 of my own
parameters:
  sockets: {type: int, default: 2, doc: number of CPUs}
---
{% import "parts.j2" as parts %}
machine_type: q35
cpus: {{ sockets }}
memory_mib: 256
devices:
  - {driver: pcie-root-port, id: rp1, bus: pcie.0, properties: {chassis: 1, slot: 1}}
{{ parts.device("virtio-blk", 1, "rp1") }}
{{ parts.backends(["virtio-blk"]) }}
"""
SCENARIO = '''\
"""My own question."""

from testbed.api import Finding, Judgement, Trial, Verdict, scenario


@scenario()
async def count_cpus(trial: Trial) -> Judgement:
    """Does the guest see as many CPUs as QEMU has?"""
    trial.stimulus("nproc")
    seen = await trial.guest.shell.run("nproc")
    good = int(seen.text) == trial.spec.cpus
    finding = Finding(subject="nproc", expected=str(trial.spec.cpus), observed=seen.text, evidence=seen.evidence)
    verdict = Verdict.GOOD if good else Verdict.BAD
    return Judgement(verdict=verdict, outcome="counted", reason=f"{seen.text} CPUs", findings=(finding,))
'''
CASE = """\
title: maxcpus= hides CPUs
description: a case of my own
image: small
cells:
  - {machine: mine, scenario: count-cpus, expect: good, outcome: counted, role: control}
  - {machine: mine, scenario: count-cpus, cmdline: maxcpus=1, expect: bad, outcome: counted, role: failing}
"""


def _recipe() -> str:
    shipped = Path(__file__).parents[2] / "guest-images" / "debian.yaml"
    return shipped.read_text()


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a wheel of this tree into an environment of its own; return its `testbed`."""
    folder = tmp_path_factory.mktemp("wheel")
    top = Path(__file__).parents[2]
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, top], check=True, capture_output=True)
    # the third-party packages are this environment's; the test bed itself is the wheel's
    venv.create(folder / "venv", with_pip=False)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True, capture_output=True)
    own = Path(next(path for path in sys.path if path.endswith("site-packages")))
    (site / "third_party.pth").write_text(f"{own}\n")
    script = folder / "testbed"
    script.write_text(f'#!/bin/sh\nexec {folder}/venv/bin/python -P -m testbed "$@"\n')
    script.chmod(0o755)
    return script


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    for name, text in {
        "machine-templates/mine.yaml.j2": TEMPLATE,
        "guest-images/small.yaml": _recipe(),
        "scenarios/count_cpus.py": SCENARIO,
        "cases/hidden-cpus.yaml": CASE,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def _run(testbed: Path, cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COLUMNS": "200", **environment}
    return subprocess.run([testbed, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.mark.extended
@pytest.mark.seconds(40)
@pytest.mark.network
def test_a_case_by_path_finds_what_stands_beside_it(testbed: Path, files: Path, tmp_path: Path) -> None:
    where = _run(testbed, tmp_path, "list", "machines")
    assert "q35" in where.stdout, where.stderr  # the wheel carries the templates
    result = _run(testbed, tmp_path, "run", str(files / "cases/hidden-cpus.yaml"), "--json", "out.json")
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert [cell["verdict"] for cell in report["cells"]] == ["good", "bad"]
    assert report["result"] == "reproduced"
    assert all(cell["image"].startswith("small ") for cell in report["cells"])


@pytest.mark.seconds(20)
@pytest.mark.parametrize("how", ["--path", pytest.param("TESTBED_PATH", marks=pytest.mark.extended), "by file"])
def test_a_scenario_of_ones_own(how: str, testbed: Path, files: Path, tmp_path: Path) -> None:
    on_machine = ("--machine", "mine", "-p", "sockets=3")
    if how == "--path":
        result = _run(testbed, tmp_path, "run", "count-cpus", *on_machine, "--path", str(files))
    elif how == "TESTBED_PATH":
        result = _run(testbed, tmp_path, "run", "count-cpus", *on_machine, TESTBED_PATH=str(files))
    else:
        template = str(files / "machine-templates/mine.yaml.j2")
        result = _run(testbed, tmp_path, "run", str(files / "scenarios/count_cpus.py"), "-m", template)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "CPUs" in result.stdout
