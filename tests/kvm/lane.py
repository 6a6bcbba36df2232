"""The KVM lane: who may run the test bed on a host with KVM, from where, and what its commands do there.

Not collected unless it is named: `make test-kvm` does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kvm.nested_host import CONFINED, MEMBER, ROOT, STRANGER
from tests.kvm.short import QUIET, run_cell

if TYPE_CHECKING:
    from tests.kvm.nested_host import NestedHost, User

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def report(nested: NestedHost, command: str, user: User = ROOT) -> dict[str, Any]:
    """Run a command that writes report.json there, and return what it wrote."""
    done = await nested.run(f"rm -f report.json; {command} --json report.json", user=user)
    written = await nested.run("cat report.json", user=user)
    assert written.status == 0, done.text + done.error
    content: dict[str, Any] = json.loads(written.text)
    return content


async def held(nested: NestedHost, cell: dict[str, Any], user: User = ROOT) -> str:
    """Return how the QEMU of a cell was contained."""
    return (await nested.run(f"cat {cell['rundir']}/containment.txt", user=user)).text


@pytest.mark.parametrize(
    ("user", "mode", "group", "accel", "how"),
    [
        pytest.param(ROOT, "660", 108, "kvm", "a user of its own", id="root"),
        pytest.param(ROOT, "600", 0, "kvm", "a user of its own", id="root-0600"),
        pytest.param(CONFINED, "660", 108, "kvm", "no right to make namespaces", id="root-confined"),
        pytest.param(CONFINED, "600", 0, "kvm", "/dev/kvm may not be opened by others", id="root-confined-0600"),
        pytest.param(MEMBER, "660", 108, "kvm", "only root can give it one", id="member-of-kvm"),
        pytest.param(STRANGER, "660", 108, "tcg", "only root can give it one", id="stranger"),
    ],
)
async def test_whoever_runs_it(nested: NestedHost, user: User, mode: str, group: int, accel: str, how: str) -> None:
    await nested.set_device(mode, group)
    cell = await run_cell(nested, f"disk-unplug {QUIET}", user=user)
    assert (cell["verdict"], cell["accel"]) == ("good", accel), cell["reason"]
    assert how in await held(nested, cell, user)


@pytest.mark.parametrize("folder", ["/mnt/runs", "/tmp/runs", "/home/member/runs"])
async def test_wherever_it_runs(nested: NestedHost, folder: str) -> None:
    await nested.set_device("600", 0)
    await nested.run(f"mkdir -p {folder}")
    cell = await run_cell(nested, f"disk-unplug {QUIET} --rundir {folder}")
    assert (cell["verdict"], cell["accel"]) == ("good", "kvm"), cell["reason"]
    assert "read-only view" in await held(nested, cell)


async def test_a_saved_guest_goes_on(nested: NestedHost) -> None:
    for start in ("fresh", "warm"):
        cell = await run_cell(nested, "disk-unplug -p memory=192 --cmdline quiet")
        assert (cell["verdict"], cell["accel"], cell["start"]) == ("good", "kvm", start)


async def test_machine_types_are_compared(nested: NestedHost) -> None:
    machines = "-m 'q35[hotplug=native,memory=256]' -m 'q35[hotplug=acpi,memory=256]'"
    done = await nested.run(f"testbed compare disk-unplug {machines} --cmdline 'quiet pcie_aspm=off'")
    assert done.status == 1, done.text
    assert "ignored" in done.text


async def test_the_culprit_among_eight_options_is_found(nested: NestedHost) -> None:
    line = "quiet nmi_watchdog=0 mitigations=off audit=0 pcie_aspm=off nosoftlockup net.ifnames=0 cgroup_disable=memory"
    found = await report(nested, f"testbed bisect disk-unplug -p hotplug=native -p memory=256 --cmdline '{line}'")
    assert [culprit["options"] for culprit in found["culprits"]] == [["pcie_aspm=off"]], found


async def test_an_endpoint_recovers(nested: NestedHost) -> None:
    for severity in ("non-fatal", "fatal"):
        line = f"aer-recover -p devices=e1000e -p hotplug=native -p memory=256 --cmdline quiet -s severity={severity}"
        cell = await run_cell(nested, line)
        assert (cell["verdict"], cell["outcome"], cell["accel"]) == ("good", "recovered", "kvm"), cell["reason"]


async def test_the_documented_case_is_reproduced(nested: NestedHost) -> None:
    case = await report(nested, "testbed run pcie-aspm-off")
    cells = [(cell["id"], cell["verdict"], cell["accel"]) for cell in case["cells"]]
    assert case["result"] == "reproduced", cells
    assert {accel for _, _, accel in cells} == {"kvm"}


async def test_the_pytest_plugin_boots_guests(nested: NestedHost) -> None:
    test = (
        "async def test_unplug(testbed_run):\n"
        '    outcome = await testbed_run("disk-unplug", machine="q35", parameters={"memory": 256}, cmdline="quiet")\n'
        '    assert outcome.accel == "kvm"\n'
    )
    await nested.run(f"mkdir -p own && cat > own/test_own.py <<'EOF'\n{test}EOF\n")
    done = await nested.run("cd own && python3 -m pytest -q -p testbed.pytest_plugin -o asyncio_mode=auto .")
    assert "1 passed" in done.text, done.text


@pytest.mark.parametrize("signal", ["INT", "KILL"])
@pytest.mark.parametrize("user", [ROOT, MEMBER], ids=["root", "member"])
async def test_an_end_leaves_no_machine(nested: NestedHost, signal: str, user: User) -> None:
    await nested.set_device("660", 108)
    line = f"python3 -m tests.kvm.ended {signal} run disk-unplug --fresh {QUIET}"
    left = json.loads((await nested.run(line, user=user)).text.splitlines()[-1])
    assert left["started"] == 1
    assert (left["machines"], left["orphans"]) == ([], [])
