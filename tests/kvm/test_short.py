"""The short part of the KVM lane: doctor, the canary's three answers, a good and an ignored cell, Ctrl-C."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.kvm.kvm_host import MEMBER, QUIET, ROOT, STRANGER, run_cell

if TYPE_CHECKING:
    from tests.kvm.kvm_host import KvmHost

# making the nested host is in the seconds of the first
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("kvm-host"),
    pytest.mark.seconds(240),
]


def choose(accel: str) -> str:
    return f"ask tests.kvm.inside.choice {accel}"


async def test_root_has_kvm_whose_device_is_for_root_only(host: KvmHost) -> None:
    await host.set_device("600", 0)
    cell = await run_cell(host, f"disk-unplug {QUIET}")
    assert (cell["verdict"], cell["accel"]) == ("good", "kvm"), cell["reason"]
    contained = (await host.run(f"cat {cell['rundir']}/containment.txt")).text
    assert "a user of its own" in contained
    assert "read-only view" in contained


async def test_who_may_not_open_it_is_told_how_to_get_the_right(host: KvmHost) -> None:
    await host.set_device("660", 108)
    denied = await host.run(choose("kvm"), user=STRANGER)
    assert "/dev/kvm: Permission denied" in denied.text
    assert "usermod -aG kvm" in denied.text
    assert (await host.run(choose("auto"), user=STRANGER)).text.startswith("tcg (KVM: /dev/kvm: Permission denied")
    assert (await host.run(choose("kvm"), user=MEMBER)).text.startswith("kvm (asked for; a guest printed")


async def test_a_device_that_runs_no_guest_is_a_no_and_remembered(host: KvmHost) -> None:
    null = (1, 3)
    await host.set_device("666", 0, number=null)
    first = await host.run(choose("auto"), user=MEMBER)
    assert first.text.startswith("tcg (KVM: /dev/kvm opens, but a guest printed nothing"), first.text
    assert "as an earlier check found" in (await host.run(choose("auto"), user=MEMBER)).text
    refused = await host.run(choose("kvm"), user=MEMBER)
    assert "as an earlier check found" not in refused.text
    assert "enable nesting" in refused.text
    await host.set_device("660", 108)


async def test_an_option_that_makes_the_guest_ignore_the_request_is_bad(host: KvmHost) -> None:
    line = "disk-unplug -p hotplug=native -p memory=256 --cmdline 'quiet pcie_aspm=off'"
    cell = await run_cell(host, line, user=MEMBER)
    assert (cell["verdict"], cell["outcome"], cell["accel"]) == ("bad", "ignored", "kvm")


async def test_ctrl_c_leaves_nothing(host: KvmHost) -> None:
    done = await host.run(f"ask tests.kvm.inside.ended INT run disk-unplug --fresh {QUIET}", user=ROOT)
    left = json.loads(done.text.splitlines()[-1])
    assert left["started"] == 1, done.error
    assert left | {"machines": [], "orphans": [], "folders": 0} == left


async def test_doctor_is_content(host: KvmHost) -> None:
    checks = json.loads((await host.run("testbed doctor --json", user=MEMBER)).text)["checks"]
    (kvm,) = [check for check in checks if check["name"] == "kvm"]
    assert kvm["state"] == "ok", kvm
    bad = [check for check in checks if check["state"] == "bad"]
    # the root file system is without what only the set-up needs
    assert [check["message"].partition(" ")[0] for check in bad] == ["python"], bad
