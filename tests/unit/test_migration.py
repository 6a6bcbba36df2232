"""What a second QEMU is given, and which options of a migration go together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed.campaign.case import load_case
from testbed.campaign.record.timeline import read_timeline
from testbed.host.qemu import Qemu
from testbed.machine.template import load_template
from testbed.model.device_kind import hot_device
from testbed.model.errors import InputError
from testbed.scenarios.live_migration import destination_spec, difference
from testbed.scenarios.migration import check_migration, grown
from testbed.scenarios.unplug import disk_unplug
from tests.behaviours import rows_of

if TYPE_CHECKING:
    from testbed.model.spec import MachineSpec

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"

QEMU = Qemu(
    path=Path("/qemu"),
    version="7.2",
    machine_types=("q35",),
    drivers=frozenset(),
    sandbox=True,
    pci_drivers=frozenset(),
)


def spec(**parameters: Any) -> MachineSpec:
    return load_template("q35").spec(parameters)


def test_every_row_of_the_page_is_a_cell_of_the_case_and_the_other_way_round() -> None:
    cells = load_case("unplug-across-migration").cells
    documented = {(cell.id, cell.expected, cell.expected_outcome) for cell in cells}
    assert {(row.cell, row.verdict, row.outcome) for row in rows_of(PAGE)} == documented


def test_what_was_added_stands_on_the_destinations_command_line_and_its_slot_is_taken() -> None:
    here = spec()
    parts = hot_device("virtio-scsi", here.slots[0])
    there = grown(here, parts)
    assert [each.id for each in there.devices[-2:]] == ["hot1", parts.children[0].id]
    assert there.disks[-1] == parts.disk
    assert there.slots == here.slots[1:]
    assert type(there).model_validate(there.model_dump()) == there


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("same", "the same devices"),
        ("lacking", "without dev2, without dev2-lun"),
        ("elsewhere", "elsewhere: dev2"),
        ("extra", "with extra1"),
    ],
)
def test_the_destination_differs_by_what_was_asked_for(how: str, said: str) -> None:
    here = spec(devices=["virtio-blk", "virtio-scsi"])
    there = destination_spec(here, here.device("dev2"), how)
    assert difference(here, there) == said
    assert type(there).model_validate(there.model_dump()).machine_type == here.machine_type


@pytest.mark.parametrize(
    ("options", "words"),
    [({"to": "sid"}, "nothing migrates there"), ({"migrate": "before", "load": "io"}, "kept busy across a migration")],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_migration(spec(), QEMU, disk_unplug.values(options))


def test_both_qemus_stand_in_one_timeline_and_each_answers_its_own(tmp_path: Path) -> None:
    there = {"qemu": "destination"}
    lines: list[dict[str, Any]] = [
        {"wall_seconds": 1.0, "command": {"execute": "migrate"}},
        {"wall_seconds": 1.1, "return": {}, **there},
        {"wall_seconds": 1.4, "return": {}},
        {"wall_seconds": 2.0, "event": {"event": "RESUME"}, **there},
    ]
    (tmp_path / "qmp.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    entries = read_timeline(tmp_path)
    assert [entry.text for entry in entries] == [
        "migrate",
        "destination: return {}",
        "return {}",
        "destination: event RESUME",
    ]
    assert entries[0].seconds == pytest.approx(0.4)
