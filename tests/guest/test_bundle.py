"""A bundle repeats a verdict somewhere else, with QEMU and socat alone; the reports of the same run tell one story."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

if TYPE_CHECKING:
    from pathlib import Path


async def _output_of(*command: str | Path, cwd: Path, env: dict[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=cwd, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.seconds(40)
async def test_a_run_is_reported_bundled_and_repeated_elsewhere(tmp_path: Path) -> None:
    testbed = (sys.executable, "-m", "testbed")
    here = dict(os.environ)
    files = ("--junit", "j.xml", "--html", "h.html", "--trace", "t.json")
    await _output_of(*testbed, "run", "disk-unplug", "-m", "i440fx", "--accel", "tcg", *files, cwd=tmp_path, env=here)
    assert ET.fromstring((tmp_path / "j.xml").read_text()).attrib["failures"] == "0"
    trace = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    at = {event["name"]: event["ts"] for event in trace if event["ph"] in "Xi"}
    (asked,) = (ts for name, ts in at.items() if name.startswith("device_del"))
    (deleted,) = (ts for name, ts in at.items() if name.startswith("event DEVICE_DELETED") and '"device"' in name)
    assert 0 < at["cont"] < asked < deleted
    (outcome,) = tmp_path.glob("testbed-runs/*/*/*/outcome.json")
    await _output_of(*testbed, "bundle", outcome.parent, "-o", "b.tar.gz", cwd=tmp_path, env=here)

    (tmp_path / "elsewhere").mkdir()
    await _output_of("tar", "xzf", "b.tar.gz", "-C", "elsewhere", cwd=tmp_path, env=here)
    for run in tmp_path.glob("testbed-runs"):
        run.rename(tmp_path / "out-of-reach")
    # neither a cache nor anything of this process's Python is at hand
    bare = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"}
    bundle = tmp_path / "elsewhere" / "b"
    shown = await _output_of("bash", bundle / "reproduce.sh", cwd=tmp_path, env=bare)
    assert f"the machine starts {bundle}/image/kernel" in shown
    assert "DEVICE_DELETED" in shown
    assert "the test bed said: disk-unplug i440fx{accel=tcg}: good" in shown


@pytest.mark.seconds(20)
async def test_a_kernel_record_stands_between_the_request_and_its_end(tmp_path: Path) -> None:
    testbed = (sys.executable, "-m", "testbed", "run", "disk-unplug", "-p", "hotplug=native", "--accel", "tcg")
    await _output_of(*testbed, "--trace", "t.json", cwd=tmp_path, env=dict(os.environ))
    trace = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    story = [event["name"] for event in sorted(trace, key=lambda event: event.get("ts", 0.0)) if event["ph"] in "Xi"]
    places = [
        next(n for n, name in enumerate(story) if words in name)
        for words in ("stimulus: device_del", 'device_del {"id"', "Attention button pressed", '"device": "dev1"')
    ]
    assert places == sorted(places)
