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
from testbed.model.outcome import Role
from tests.kvm.lane import disagreements, judged, outcomes

if TYPE_CHECKING:
    from testbed.model.outcome import Cell
    from tests.kvm.kvm_host import KvmHost

pytestmark = pytest.mark.asyncio(loop_scope="session")

_IN_THE_LANE = {"pcie-aspm-off", "stalled-mmio"}


def _runs_there(cell: Cell) -> bool:
    """Return whether the nested host has what a cell needs: no other QEMU or kernel, no KVM of a guest's own."""
    return cell.machine != "level1" and cell.image == STOCK and not cell.qemu and "to" not in cell.options


def _cells() -> dict[str, list[Cell]]:
    of_case = {name: [cell for cell in load_case(name).cells if _runs_there(cell)] for name in CASES.names()}
    return {name: cells for name, cells in of_case.items() if cells and name not in _IN_THE_LANE}


CELLS = _cells()


@pytest.mark.parametrize("name", CELLS)
async def test_a_case_is_under_kvm_what_it_is_under_tcg(host: KvmHost, name: str) -> None:
    run = await outcomes(host, CELLS[name])
    there = judged(run, CELLS[name])
    assert {cell.role for _, cell in there} >= {Role.FAILING, Role.CONTROL}, run
    assert {seen.accel for seen, _ in there} == {"kvm"}
    assert disagreements(run, CELLS[name]) == []
