"""The user space of a disk: which root the guest is told of, how it is asked for, and how a person repeats it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from testbed.campaign.prepared import prepare_cell
from testbed.campaign.setups import read_one_setup
from testbed.campaign.system import find_system
from testbed.image.disk.choice import chosen_system
from testbed.image.disk.disk_name import DiskName
from testbed.image.disk.records import parse_records
from testbed.image.disk.root_volume import root_volume
from testbed.model.errors import InputError
from testbed.model.outcome import Cell
from testbed.model.setup import Setup
from tests.unit.test_disk_image import END, record

DISK = DiskName(file=Path("a.raw"))


def root(name: str, kind: str = "ext4") -> str:
    head = record("V", name, f"type={kind}\n".encode(), 1 << 24)
    survey = parse_records(head + record("F", "etc/os-release", b"NAME=A") + END)
    return root_volume(DISK, chosen_system(DISK, survey), survey).line()


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("vda3", "ext4", "3 ext4 -\n"),
        ("vda", "xfs", "0 xfs -\n"),
        ("vda2:root", "btrfs", "2 btrfs root\n"),
        ("vg-0/root", "ext4", "vg-0/root ext4 -\n"),
        ("md1", "xfs", "md1 xfs -\n"),
        ("vg/fedora:@", "btrfs", "vg/fedora btrfs @\n"),
    ],
)
def test_where_the_root_is(name: str, kind: str, line: str) -> None:
    assert root(name, kind) == line


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("vda1", "vfat", "its root is vfat, wanted ext4, xfs, btrfs"),
        ("vda2:a b", "btrfs", "its root is vda2:a b, a name that cannot be passed on"),
        ("v g/root", "ext4", "a name that cannot"),
    ],
)
def test_roots_that_cannot_be_switched_to(name: str, kind: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        root(name, kind)


def test_a_disk_without_a_root_has_no_user_space() -> None:
    survey = parse_records(record("V", "vda1", b"type=ext4\n") + record("F", "vmlinuz-1", b"MZ") + END)
    with pytest.raises(InputError, match=r"has an os-release, so its root is unknown"):
        root_volume(DISK, chosen_system(DISK, survey), survey)


def test_only_a_disk_has_a_user_space() -> None:
    with pytest.raises(InputError, match=r"image debian has no user space of its own"):
        find_system("debian", lambda _: None)


@pytest.mark.parametrize("whole", ["running", "30"])
@pytest.mark.parametrize("via", ["agent", "console"])
def test_a_setup_says_whether_it_runs_and_who_answers(whole: str, via: Literal["agent", "console"]) -> None:
    setup = Setup(machine="q35", image="disk:/a.raw", whole=whole, via=via, login="a,b", cmdline="quiet")
    assert read_one_setup(str(setup)) == setup


def test_a_setup_with_another_word_is_refused() -> None:
    with pytest.raises(InputError, match="whole"):
        read_one_setup("q35{whole=soon}")


@pytest.mark.parametrize(
    ("scenario", "fields", "words"),
    [
        ("disk-plug", {"login": "/a"}, "--login: no console asks for a login here"),
        ("disk-plug", {"via": "console", "image": "disk:/a.raw"}, "--via console: needs a login for its shell"),
        ("boots", {"first": "true"}, "--first: the test bed has no process to run it"),
        ("boots", {}, "image debian has no user space of its own"),
        ("boots", {"image": "disk:/a.raw,kernel=6.1"}, "kernel=6.1 is not for a disk that its own loader boots"),
        (
            "disk-plug",
            {"via": "console", "login": "/a", "image": "disk:/a.raw,system=2"},
            "system=2 is not for a disk that its own loader boots",
        ),
    ],
)
def test_what_does_not_go_with_the_way_a_guest_boots(scenario: str, fields: dict[str, str], words: str) -> None:
    cell = Cell.of(Setup(machine="q35", **fields), scenario)
    with pytest.raises(InputError, match=words):
        prepare_cell(cell, progress=lambda _: None)
