"""reproduce.sh repeats a verdict with nothing of the test bed's but the image."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testbed.pytest_plugin import Judge


async def output_of(script: Path) -> str:
    # an environment of its own: nothing of this process's Python or test bed is at hand
    process = await asyncio.create_subprocess_exec(
        "bash", script, env={"PATH": "/usr/bin:/bin"}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.extended
@pytest.mark.seconds(70)
async def test_it_shows_an_ignored_unplug(testbed_try: Judge) -> None:
    outcome = await testbed_try("disk-unplug", parameters={"hotplug": "native"}, cmdline="pcie_aspm=off")
    shown = await output_of(Path(outcome.rundir) / "reproduce.sh")
    assert '"device_del"' in shown
    assert "DEVICE_DELETED" not in shown
    assert "dev1 is there after 30 s" in shown


@pytest.mark.extended
@pytest.mark.seconds(20)
async def test_it_shows_a_disk_that_is_plugged_and_found(testbed_try: Judge) -> None:
    outcome = await testbed_try(scenario="disk-plug", machine="i440fx")
    assert outcome.verdict == "good"
    shown = await output_of(Path(outcome.rundir) / "reproduce.sh")
    assert "the device is there after 0 s" in shown
    assert "/sys/block/vdb/serial:hot1" in shown or "hot1" in shown.split("grep -x hot1")[-1]
