"""The short part of the KVM lane: doctor, the canary's three answers, a good and an ignored cell, Ctrl-C.

Not collected unless it is named: `make test-kvm` does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kvm.nested_host import MEMBER, ROOT, STRANGER

if TYPE_CHECKING:
    from tests.kvm.nested_host import NestedHost, User

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: messages of a level-2 kernel cost an exit at both levels for each character
QUIET = "-p memory=256 --cmdline quiet"
#: tells the accelerator, and ends before it runs anything
CHOICE = (
    "from testbed.host.accel import choose_accel; from testbed.host.qemu import find_qemu; "
    "from testbed.model.errors import BedError\n"
    "try:\n print(choose_accel('{}', find_qemu()))\n"
    "except BedError as error:\n print(error.message, '|', error.hint)"
)


def choose(accel: str) -> str:
    return f'python3 -c "{CHOICE.format(accel)}"'


async def run_cell(nested: NestedHost, arguments: str, user: User = ROOT) -> dict[str, Any]:
    """Run one cell there and return its outcome."""
    done = await nested.run(f"testbed run {arguments} --json report.json", user=user)
    report = await nested.run("cat report.json", user=user)
    assert report.status == 0, done.text + done.error
    cell: dict[str, Any]
    (cell,) = json.loads(report.text)["cells"]
    return cell


async def test_root_has_kvm_whose_device_is_for_root_only(nested: NestedHost) -> None:
    await nested.set_device("600", 0)
    cell = await run_cell(nested, f"disk-unplug {QUIET}")
    assert (cell["verdict"], cell["accel"]) == ("good", "kvm"), cell["reason"]
    contained = (await nested.run(f"cat {cell['rundir']}/containment.txt")).text
    assert "a user of its own" in contained
    assert "read-only view" in contained


async def test_who_may_not_open_it_is_told_how_to_get_the_right(nested: NestedHost) -> None:
    await nested.set_device("660", 108)
    denied = await nested.run(choose("kvm"), user=STRANGER)
    assert "/dev/kvm: Permission denied" in denied.text
    assert "usermod -aG kvm" in denied.text
    assert (await nested.run(choose("auto"), user=STRANGER)).text.startswith("tcg (KVM: /dev/kvm: Permission denied")
    assert (await nested.run(choose("kvm"), user=MEMBER)).text.startswith("kvm (asked for; a guest printed")


async def test_a_device_that_runs_no_guest_is_a_no_and_remembered(nested: NestedHost) -> None:
    null = (1, 3)
    await nested.set_device("666", 0, number=null)
    first = await nested.run(choose("auto"), user=MEMBER)
    assert first.text.startswith("tcg (KVM: /dev/kvm opens, but a guest printed nothing"), first.text
    assert "as remembered" in (await nested.run(choose("auto"), user=MEMBER)).text
    refused = await nested.run(choose("kvm"), user=MEMBER)
    assert "as remembered" not in refused.text
    assert "enable nesting" in refused.text
    await nested.set_device("660", 108)


async def test_an_option_that_makes_the_guest_ignore_the_request_is_bad(nested: NestedHost) -> None:
    line = "disk-unplug -p hotplug=native -p memory=256 --cmdline 'quiet pcie_aspm=off'"
    cell = await run_cell(nested, line, user=MEMBER)
    assert (cell["verdict"], cell["outcome"], cell["accel"]) == ("bad", "ignored", "kvm")


async def test_ctrl_c_leaves_nothing(nested: NestedHost) -> None:
    done = await nested.run(f"python3 -m tests.kvm.ended INT run disk-unplug --fresh {QUIET}", user=ROOT)
    left = json.loads(done.text.splitlines()[-1])
    assert left["started"] == 1, done.error
    assert left | {"machines": [], "orphans": [], "folders": 0} == left


async def test_doctor_is_content(nested: NestedHost) -> None:
    checks = json.loads((await nested.run("testbed doctor --json", user=MEMBER)).text)["checks"]
    (kvm,) = [check for check in checks if check["name"] == "kvm"]
    assert kvm["state"] == "ok", kvm
    bad = [check for check in checks if check["state"] == "bad"]
    # the root file system is without what only the set-up needs
    assert [check["message"].partition(" ")[0] for check in bad] == ["python"], bad
