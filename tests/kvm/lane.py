"""The KVM lane: who may run the test bed on a host with KVM, from where, and what its commands do there.

The tests are in an order in which a guest that one saved serves the next.
Not collected unless it is named: `make test-kvm` does.
"""

from __future__ import annotations

import json
import re
import shlex
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import TypeAdapter

from testbed.campaign.case import load_case
from testbed.model.outcome import Role, RunReport, Verdict
from testbed.model.version_rule import AXES, outside
from tests.kvm.kvm_host import CONFINED, MEMBER, QUIET, ROOT, STRANGER, run_cell
from tests.kvm.nested_host import NestedHost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.model.outcome import Cell, Outcome
    from testbed.model.version_rule import Axis
    from tests.kvm.kvm_host import KvmHost, User

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: cells of cases, a failing one and a control of each; most resume a guest that `pcie-aspm-off` saved
ALIKE = {
    "rescan-no-longer-helps": (0, 1),
    "ghost-disk": (0, 1),
    "aer-endpoint-recovery": (1, 2, 3),
    "aer-injection-unheard": (0, 1),
    "second-device-on-a-port": (0, 1),
}
#: how a kernel says that it is, or has been, in trouble
COMPLAINT = re.compile(r"BUG:|soft lockup|hard LOCKUP|self-detected stall|detected stalls|blocked for more|Call Trace")


async def written(host: KvmHost, command: str, user: User = ROOT) -> str:
    """Run a command that writes report.json there, and return what it wrote."""
    done = await host.run(f"rm -f report.json; {command} --json report.json", user=user)
    file = await host.run("cat report.json", user=user)
    assert file.status == 0, done.text + done.error
    return file.text


async def report(host: KvmHost, command: str) -> dict[str, Any]:
    """Run a command there, and return its report."""
    content: dict[str, Any] = json.loads(await written(host, command))
    return content


async def outcomes(host: KvmHost, cells: Sequence[Cell]) -> list[Outcome]:
    """Run cells there, which are a report each, and return their outcomes."""
    text = await written(host, f"testbed run --jobs 2 {shlex.join(cell.id for cell in cells)}")
    return [outcome for run in TypeAdapter(list[RunReport]).validate_json(text) for outcome in run.cells]


def disagreements(run: Sequence[Outcome], cells: Sequence[Cell]) -> list[str]:
    """Return how cells that ran came out otherwise than their case documents for the versions they ran with."""
    found = []
    for seen, cell in judged(run, cells):
        documented = {"expected": cell.expected, "expected_outcome": cell.expected_outcome, "because": cell.because}
        if different := seen.model_copy(update=documented).disagreement:
            found.append(f"{seen.id}: {different}")
    return found


def judged(run: Sequence[Outcome], cells: Sequence[Cell]) -> list[tuple[Outcome, Cell]]:
    """Return what was not skipped, with the cells that are documented for the kernel and the QEMU it ran with."""
    pairs = [pair for pair in zip(run, cells, strict=True) if pair[0].verdict is not Verdict.SKIP]
    return [(seen, cell) for seen, cell in pairs if not any(map(partial(_is_of_another, seen, cell), AXES))]


def _is_of_another(seen: Outcome, cell: Cell, axis: Axis) -> bool:
    # the QEMU's path, then what it says of itself
    version = seen.kernel if axis == "kernel" else seen.qemu.partition(" ")[2]
    return bool(outside(cell.since, cell.until, axis, version))


async def held(host: KvmHost, cell: dict[str, Any], user: User = ROOT) -> str:
    """Return how the QEMU of a cell was contained."""
    return (await host.run(f"cat {cell['rundir']}/containment.txt", user=user)).text


async def test_the_documented_case_is_reproduced(host: KvmHost) -> None:
    await host.set_device("600", 0)
    case = await report(host, "testbed run pcie-aspm-off --jobs 2")
    cells = [(cell["id"], cell["verdict"], cell["reason"]) for cell in case["cells"]]
    assert case["result"] == "reproduced", cells
    # a row for QEMUs of other versions is skipped
    assert {cell["accel"] for cell in case["cells"] if cell["verdict"] != "skip"} == {"kvm"}
    # a question about a machine that another was about already
    assert "warm" in {cell["start"] for cell in case["cells"]}


async def test_machine_types_are_compared(host: KvmHost) -> None:
    machines = "-m 'q35[hotplug=native]' -m 'q35[hotplug=acpi]'"
    found = await report(host, f"testbed compare disk-unplug {machines} --cmdline pcie_aspm=off")
    assert [(cell["verdict"], cell["outcome"]) for cell in found["cells"]] == [("bad", "ignored"), ("good", "deleted")]
    assert found["differences"], found


@pytest.mark.parametrize(("name", "numbers"), ALIKE.items(), ids=ALIKE)
async def test_a_case_is_under_kvm_what_it_is_under_tcg(host: KvmHost, name: str, numbers: tuple[int, ...]) -> None:
    cells = [load_case(name).cells[number] for number in numbers]
    assert {cell.role for cell in cells} >= {Role.FAILING, Role.CONTROL}
    run = await outcomes(host, cells)
    assert [(seen.id, seen.accel) for seen in run] == [(cell.id, "kvm") for cell in cells]
    assert disagreements(run, cells) == []


@pytest.mark.parametrize(
    ("user", "mode", "group", "accel", "how"),
    [
        pytest.param(ROOT, "660", 108, "kvm", "a user of its own", id="root"),
        # root, 0600: in the short part
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


@pytest.mark.parametrize("signal", ["INT", "KILL"])
@pytest.mark.parametrize("user", [ROOT, MEMBER], ids=["root", "member"])
async def test_an_end_leaves_no_machine(host: KvmHost, signal: str, user: User) -> None:
    await host.set_device("660", 108)
    line = f"ask tests.kvm.inside.ended {signal} run disk-unplug --fresh {QUIET}"
    left = json.loads((await host.run(line, user=user)).text.splitlines()[-1])
    assert left["started"] == 1
    assert (left["machines"], left["orphans"]) == ([], [])


async def test_the_pytest_plugin_boots_guests(host: KvmHost) -> None:
    test = (
        "async def test_unplug(testbed_run):\n"
        '    outcome = await testbed_run("disk-unplug", machine="q35", parameters={"memory": 256}, cmdline="quiet")\n'
        '    assert outcome.accel == "kvm"\n'
    )
    await host.run(f"mkdir -p own && cat > own/test_own.py <<'EOF'\n{test}EOF\n")
    done = await host.run("cd own && ask pytest -q -p testbed.pytest_plugin -o asyncio_mode=auto .")
    assert "1 passed" in done.text, done.text


async def test_the_culprit_among_eight_options_is_found(host: KvmHost) -> None:
    line = "quiet nmi_watchdog=0 mitigations=off audit=0 pcie_aspm=off nosoftlockup net.ifnames=0 cgroup_disable=memory"
    found = await report(host, f"testbed bisect disk-unplug -p hotplug=native -p memory=256 --cmdline '{line}'")
    assert found["culprits"] == ["pcie_aspm=off"], found


async def test_an_access_stalls_at_the_instruction(host: KvmHost) -> None:
    cells = [load_case("stalled-mmio").cells[number] for number in (2, 0)]
    completed, stalled = await outcomes(host, cells)
    assert (completed.verdict, completed.outcome, completed.accel) == ("good", "completed", "kvm"), completed.reason
    if isinstance(host, NestedHost):
        # the SVM that TCG emulates lets no process access a port (docs/nested.md)
        assert (stalled.verdict, "SIGSEGV" in stalled.reason) == ("broken", True), stalled.reason
    else:
        assert (stalled.verdict, stalled.outcome) == ("bad", "stalled"), stalled.reason


async def test_the_nested_hosts_kernel_complained_of_nothing(host: KvmHost) -> None:
    if not isinstance(host, NestedHost):
        pytest.skip("this host's own kernel has seen more than the lane")
    said = (await host.run("dmesg")).text
    assert "kvm" in said
    assert [line for line in said.splitlines() if COMPLAINT.search(line)] == []
