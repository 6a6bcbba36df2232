"""The KVM lane: who may run the test bed on a host with KVM, from where, and what its commands do there.

Not collected unless it is named: `make test-kvm` does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kvm.kvm_host import CONFINED, MEMBER, ROOT, STRANGER
from tests.kvm.short import QUIET, run_cell

if TYPE_CHECKING:
    from tests.kvm.kvm_host import KvmHost, User

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def report(host: KvmHost, command: str, user: User = ROOT) -> dict[str, Any]:
    """Run a command that writes report.json there, and return what it wrote."""
    done = await host.run(f"rm -f report.json; {command} --json report.json", user=user)
    written = await host.run("cat report.json", user=user)
    assert written.status == 0, done.text + done.error
    content: dict[str, Any] = json.loads(written.text)
    return content


async def held(host: KvmHost, cell: dict[str, Any], user: User = ROOT) -> str:
    """Return how the QEMU of a cell was contained."""
    return (await host.run(f"cat {cell['rundir']}/containment.txt", user=user)).text


@pytest.mark.parametrize(
    ("user", "mode", "group", "accel", "how"),
    [
        pytest.param(ROOT, "660", 108, "kvm", "a user of its own", id="root"),
        pytest.param(ROOT, "600", 0, "kvm", "a user of its own", id="root-0600"),
        # without a view of its own another user would not see what lies in a home of mode 0700
        pytest.param(CONFINED, "660", 108, "kvm", "/root hides files from it", id="root-confined"),
        pytest.param(CONFINED, "600", 0, "kvm", "/root hides files from it", id="root-confined-0600"),
        pytest.param(MEMBER, "660", 108, "kvm", "only root can give it one", id="member-of-kvm"),
        pytest.param(STRANGER, "660", 108, "tcg", "only root can give it one", id="stranger"),
    ],
)
async def test_whoever_runs_it(host: KvmHost, user: User, mode: str, group: int, accel: str, how: str) -> None:
    await host.set_device(mode, group)
    cell = await run_cell(host, f"disk-unplug {QUIET}", user=user)
    assert (cell["verdict"], cell["accel"]) == ("good", accel), cell["reason"]
    assert how in await held(host, cell, user)


@pytest.mark.parametrize("folder", ["/mnt/runs", "/tmp/runs", "/home/member/runs"])
async def test_wherever_it_runs(host: KvmHost, folder: str) -> None:
    await host.set_device("600", 0)
    await host.run(f"mkdir -p {folder}")
    cell = await run_cell(host, f"disk-unplug {QUIET} --rundir {folder}")
    assert (cell["verdict"], cell["accel"]) == ("good", "kvm"), cell["reason"]
    assert "read-only view" in await held(host, cell)


async def test_a_saved_guest_goes_on(host: KvmHost) -> None:
    for start in ("fresh", "warm"):
        cell = await run_cell(host, "disk-unplug -p memory=192 --cmdline quiet")
        assert (cell["verdict"], cell["accel"], cell["start"]) == ("good", "kvm", start)


async def test_machine_types_are_compared(host: KvmHost) -> None:
    machines = "-m 'q35[hotplug=native,memory=256]' -m 'q35[hotplug=acpi,memory=256]'"
    done = await host.run(f"testbed compare disk-unplug {machines} --cmdline 'quiet pcie_aspm=off'")
    assert done.status == 1, done.text
    assert "ignored" in done.text


async def test_the_culprit_among_eight_options_is_found(host: KvmHost) -> None:
    line = "quiet nmi_watchdog=0 mitigations=off audit=0 pcie_aspm=off nosoftlockup net.ifnames=0 cgroup_disable=memory"
    found = await report(host, f"testbed bisect disk-unplug -p hotplug=native -p memory=256 --cmdline '{line}'")
    assert found["culprits"] == ["pcie_aspm=off"], found


async def test_an_endpoint_recovers(host: KvmHost) -> None:
    for severity in ("non-fatal", "fatal"):
        line = f"aer-recover -p devices=e1000e -p hotplug=native -p memory=256 --cmdline quiet -s severity={severity}"
        cell = await run_cell(host, line)
        assert (cell["verdict"], cell["outcome"], cell["accel"]) == ("good", "recovered", "kvm"), cell["reason"]


async def test_the_documented_case_is_reproduced(host: KvmHost) -> None:
    case = await report(host, "testbed run pcie-aspm-off")
    cells = [(cell["id"], cell["verdict"], cell["accel"]) for cell in case["cells"]]
    assert case["result"] == "reproduced", cells
    assert {accel for _, _, accel in cells} == {"kvm"}


async def test_the_pytest_plugin_boots_guests(host: KvmHost) -> None:
    test = (
        "async def test_unplug(testbed_run):\n"
        '    outcome = await testbed_run("disk-unplug", machine="q35", parameters={"memory": 256}, cmdline="quiet")\n'
        '    assert outcome.accel == "kvm"\n'
    )
    await host.run(f"mkdir -p own && cat > own/test_own.py <<'EOF'\n{test}EOF\n")
    done = await host.run("cd own && ask pytest -q -p testbed.pytest_plugin -o asyncio_mode=auto .")
    assert "1 passed" in done.text, done.text


@pytest.mark.parametrize("signal", ["INT", "KILL"])
@pytest.mark.parametrize("user", [ROOT, MEMBER], ids=["root", "member"])
async def test_an_end_leaves_no_machine(host: KvmHost, signal: str, user: User) -> None:
    await host.set_device("660", 108)
    line = f"ask tests.kvm.inside.ended {signal} run disk-unplug --fresh {QUIET}"
    left = json.loads((await host.run(line, user=user)).text.splitlines()[-1])
    assert left["started"] == 1
    assert (left["machines"], left["orphans"]) == ([], [])
