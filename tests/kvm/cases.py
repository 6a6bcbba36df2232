"""Every case that needs no machine inside a machine, under KVM: each cell is held to what is documented for TCG.

The cells are those of the installed QEMU and the stock kernel; `lane.py` has `pcie-aspm-off` and `stalled-mmio`.
Not collected unless it is named: `.venv/bin/pytest -v tests/kvm/cases.py`, and `-k NAME` for one case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.campaign.case import load_case
from testbed.image.recipe import STOCK
from testbed.model.catalog import CASES
from testbed.model.outcome import Role, Verdict
from tests.kvm.lane import disagreements, judged, outcomes
from tests.kvm.nested_host import NestedHost

if TYPE_CHECKING:
    from testbed.model.outcome import Cell
    from tests.kvm.kvm_host import KvmHost

pytestmark = pytest.mark.asyncio(loop_scope="session")

_IN_THE_LANE = {"pcie-aspm-off", "stalled-mmio"}
#: the SVM that TCG emulates lets no process access a port (docs/nested.md)
_WITH_A_PORT = ("disk-surprise-removal q35[hotplug=acpi]", "disk-surprise-removal i440fx")


def _runs_there(cell: Cell) -> bool:
    """Return whether the nested host has what a cell needs: no other QEMU or kernel, no KVM of a guest's own."""
    return cell.machine != "level1" and cell.image == STOCK and not cell.qemu and "to" not in cell.options


def _cells() -> dict[str, list[Cell]]:
    of_case = {name: [cell for cell in load_case(name).cells if _runs_there(cell)] for name in CASES.names()}
    return {name: cells for name, cells in of_case.items() if cells and name not in _IN_THE_LANE}


CELLS = _cells()


@pytest.mark.parametrize("name", CELLS)
async def test_a_case_is_under_kvm_what_it_is_under_tcg(host: KvmHost, name: str) -> None:
    # rows for versions of their own may ask the same: it is asked once
    asked = {cell.id: cell for cell in CELLS[name]}
    answers = dict(zip(asked, await outcomes(host, list(asked.values())), strict=True))
    if isinstance(host, NestedHost):
        for cell in set(_WITH_A_PORT) & set(answers):
            seen = answers.pop(cell)
            assert (seen.verdict, "nothing was taken away" in seen.reason) == ("broken", True), seen.reason
    cells = [cell for cell in CELLS[name] if cell.id in answers]
    run = [answers[cell.id] for cell in cells]
    if all(seen.verdict is Verdict.SKIP for seen in run):
        pytest.skip(run[0].reason)
    there = judged(run, cells)
    assert {cell.role for _, cell in there} >= {Role.FAILING, Role.CONTROL}, run
    assert {seen.accel for seen, _ in there} == {"kvm"}
    assert disagreements(run, cells) == []
