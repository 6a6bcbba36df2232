"""Accesses that cannot be, BARs as sysfs gives them, and a task's stat."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.actions.register import Access, Route, check_access
from testbed.guest.bars import AssignedBar, Owner, parse_resources
from testbed.guest.task import parse_stat
from testbed.model.bar import Space
from testbed.model.errors import InputError, UnsupportedError
from testbed.model.mmio_record import Direction
from testbed.model.pci import Bdf
from testbed.model.spec import Device
from testbed.scenarios.mmio_choice import OPTIONS, chosen_access, port_access

#: a transitional virtio-net behind a root port
RESOURCES = """\
0x000000000000c000 0x000000000000c01f 0x0000000000040101
0x00000000fe840000 0x00000000fe840fff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000fe000000 0x00000000fe003fff 0x000000000014220c
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000fe800000 0x00000000fe83ffff 0x0000000000046200
"""
ACCESS = Access(route=Route.USER, bar=4, offset=0x14, width=1)
DEFAULTS = {name: option.default for name, option in OPTIONS.items()}


def owner(resources: str = RESOURCES) -> Owner:
    bars = parse_resources(resources)
    return Owner(address=Bdf(0, 1, 0, 0), vendor=0x1AF4, device=0x1000, driver="", bars=bars)


def test_bars_of_a_resource_file() -> None:
    assert owner().bars == (
        AssignedBar(index=0, space=Space.IO, start=0xC000, size=0x20, prefetchable=False),
        AssignedBar(index=1, space=Space.MEMORY, start=0xFE840000, size=0x1000, prefetchable=False),
        AssignedBar(index=4, space=Space.MEMORY, start=0xFE000000, size=0x4000, prefetchable=True),
    )
    assert str(owner().bars[0]) == "BAR 0 (I/O, 0x20 bytes at 0xc000)"


def test_a_bar_without_an_address_is_none() -> None:
    assert parse_resources("0x0000000000000000 0x0000000000003fff 0x0000000020040200") == ()


@given(st.text(max_size=200))
def test_any_resource_file_is_taken(text: str) -> None:
    assert all(bar.size > 1 for bar in parse_resources(text))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 3}, "width 3: accesses are 1, 2, 4 or 8 bytes wide"),
        ({"offset": 0x15, "width": 2}, "offset 0x15: is not aligned to 2 bytes"),
        ({"offset": -4}, "is not aligned"),
        ({"route": Route.PIO, "width": 8, "offset": 0}, "pio accesses are 1, 2 or 4 bytes wide"),
        ({"route": Route.CONFIG, "bar": None, "width": 8, "offset": 0}, "config accesses are 1, 2 or 4 bytes wide"),
        ({"route": Route.CONFIG}, "configuration space has no BAR"),
        ({"bar": None}, "route user: needs a BAR"),
        ({"count": 0}, "count 0: wanted 1 to"),
        ({"value": 256}, "value 0x100: does not fit into 1 bytes"),
    ],
)
def test_what_no_machine_has_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        check_access(replace(ACCESS, **change))
    assert words in caught.value.message


def test_the_register_is_the_one_a_user_space_driver_takes() -> None:
    virtio = Device(driver="virtio-net-pci", id="dev1")
    assert chosen_access(virtio, owner(), Direction.READ, DEFAULTS) == ACCESS
    by_port = chosen_access(virtio, owner(), Direction.WRITE, {**DEFAULTS, "access": "pio"})
    assert (by_port.route, by_port.bar, by_port.offset, by_port.value) == (Route.PIO, 0, 0x12, 0)
    legacy = owner("\n".join(RESOURCES.splitlines()[:2]))
    assert chosen_access(virtio, legacy, Direction.READ, DEFAULTS).route is Route.PIO


def test_an_unknown_device_is_written_only_where_one_says() -> None:
    nvme = Device(driver="nvme", id="dev1")
    with pytest.raises(UnsupportedError) as caught:
        chosen_access(nvme, owner(), Direction.WRITE, DEFAULTS)
    assert caught.value.hint == "name one: -s bar=… -s offset=… -s value=…"
    given_all = {**DEFAULTS, "bar": 4, "offset": 0x20, "value": 7}
    assert chosen_access(nvme, owner(), Direction.WRITE, given_all).value == 7


def test_a_port_of_the_device_itself_is_taken_where_it_has_one() -> None:
    assert (port_access(owner()).bar, port_access(owner()).width) == (0, 4)
    assert port_access(owner("")).bar is None


def test_stall_is_checked_before_anything_starts() -> None:
    assert "there is no model 'smep'" in str(OPTIONS["stall"].problem("smep"))
    assert OPTIONS["stall"].problem("after:2") is None


def test_a_task_with_an_odd_name() -> None:
    stat = "95 (a) b (c) R 1 95 95 0 -1 4194304 58 0 0 0 657 201 0 0 20 0 1 0 602 180224 1"
    task = parse_stat(stat, evidence="shell.jsonl:1")
    assert task is not None
    assert (task.pid, task.name, task.state, task.user_seconds) == (95, "a) b (c", "R", 6.57)
    assert task.session == 95
    assert parse_stat("95 (cut", evidence="shell.jsonl:1") is None
