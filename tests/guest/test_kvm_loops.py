"""Loops and ends of a vCPU, made at level 1 under its own kvm_amd, and what `mmio explain` says of their traces."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.campaign.prepared import launched
from testbed.guest.guest import boot
from testbed.guest.level2 import prepare_level1
from testbed.guest.tracing import FILE, tracing
from testbed.kvmtrace.cause import UNMAPPED_AGAIN, find_cause
from testbed.kvmtrace.explanation import explain
from testbed.kvmtrace.incident import Kind
from tests.guest.conftest import prepared

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.host.host import LocalHost
    from testbed.kvmtrace.explanation import Explanation

VMM = Path(__file__).parent.parent / "data" / "kvm" / "vmm.c"


def compiled(folder: Path) -> bytes:
    subprocess.run(["cc", "-O1", "-static", "-pthread", "-o", folder / "vmm", VMM], check=True)
    return (folder / "vmm").read_bytes()


async def traced(guest: Guest, how: str, rundir: Path) -> Explanation:
    async with tracing(guest, events=("kvm",)):
        await guest.shell.succeed(f"/vmm {how}")
    return explain((rundir / FILE).read_text().splitlines(), name=FILE, at_least=10)


@pytest.mark.extended
@pytest.mark.seconds(90)
async def test_a_loop_and_two_ends_of_a_vcpu_are_called_what_they_are(host: LocalHost, tmp_path: Path) -> None:
    program = compiled(tmp_path)
    parameters = {"devices": [], "iommu": "none", "memory": 1024}
    ready = prepared(
        machine="level1",
        image="level1",
        parameters=parameters,
        time="real",
        cmdline="no_timer_check nohz=off highres=off",
    )
    async with launched(ready, host, tmp_path) as machine, boot(machine) as guest:
        await prepare_level1(guest)
        await guest.shell.put_file("/vmm", program, mode=0o755)
        failed = await traced(guest, "efault", tmp_path)
        assert [(each.incident.kind, each.incident.count) for each in failed.incidents] == [(Kind.ERROR, 30)]
        ended = await traced(guest, "emulate", tmp_path)
        assert [each.incident.kind for each in ended.incidents] == [Kind.INTERNAL_ERROR]
        # how long a row gets depends on when the host's threads are run: the longest of a few is taken
        rows = [await traced(guest, "unmap", tmp_path) for _ in range(3)]
    loops = [loop for each in rows for loop in each.loops]
    assert loops
    assert {find_cause(loop) for loop in loops} == {UNMAPPED_AGAIN}
    assert {loop.gpa for loop in loops} <= {32 << 20, 0x1000}
