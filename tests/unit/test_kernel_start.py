"""Which kernel file a machine starts: the ELF kernel by its PVH entry, or the bzImage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testbed.image.store import Image
from testbed.machine.kernel_start import startable, starts_elf
from testbed.model.errors import InputError
from testbed.model.spec import MachineSpec


@pytest.mark.parametrize(
    ("machine_type", "starts"),
    [
        ("q35", True),
        ("pc", True),
        ("pc-q35-3.1", False),
        ("pc-q35-4.0", True),
        ("pc-q35-4.0.1", True),
        ("pc-i440fx-2.12", False),
        ("pc-i440fx-10.0", True),
        ("microvm", True),
    ],
)
def test_machine_types_before_4_0_need_a_bzimage(machine_type: str, starts: bool) -> None:
    assert starts_elf(machine_type) is starts


def image(*files: str) -> Image:
    """Return an image with these kernel files."""
    kernels = {name: Path("/images") / name if name in files else None for name in ("bzimage", "vmlinux")}
    return Image(
        name="debian",
        id="1",
        key="2",
        folder=Path("/images"),
        kernel="6.1.0",
        package="",
        initramfs=Path("/images/initramfs"),
        modules=(),
        absent=(),
        size=1,
        **kernels,
    )


def spec(**fields: Any) -> MachineSpec:
    return MachineSpec(**{"machine_type": "q35", **fields})


@pytest.mark.parametrize(
    ("files", "fields", "sleeps", "boot"),
    [
        ("bzimage vmlinux", {}, False, "pvh"),
        ("bzimage vmlinux", {}, True, "bzimage"),
        ("bzimage vmlinux", {"start": "pvh"}, True, "pvh"),
        ("bzimage vmlinux", {"start": "bzimage"}, False, "bzimage"),
        ("bzimage vmlinux", {"machine_type": "pc-q35-3.1"}, False, "bzimage"),
        ("bzimage vmlinux", {"firmware": "ovmf"}, False, "bzimage"),
        ("bzimage", {}, False, "bzimage"),
        # there is no other
        ("vmlinux", {}, True, "pvh"),
    ],
)
def test_pvh_is_taken_unless_the_machine_or_the_scenario_needs_a_bzimage(
    files: str, fields: dict[str, str], sleeps: bool, boot: str
) -> None:
    chosen = startable(image(*files.split()), spec(**fields), sleeps=sleeps)
    assert chosen.boot == boot
    assert chosen.kernel_file.name == {"pvh": "vmlinux", "bzimage": "bzimage"}[boot]


@pytest.mark.parametrize(
    ("files", "fields", "words"),
    [
        ("vmlinux", {"start": "bzimage"}, "start=bzimage: image debian has only a vmlinux"),
        ("vmlinux", {"firmware": "ovmf"}, "firmware=ovmf: image debian has only a vmlinux"),
        ("bzimage", {"start": "pvh"}, "start=pvh: kernel 6.1.0 of image debian has no PVH entry"),
        ("bzimage vmlinux", {"start": "pvh", "machine_type": "pc-q35-3.1"}, "pc-q35-3.1 cannot boot an ELF kernel"),
    ],
)
def test_what_was_asked_for_and_cannot_be_is_wrong_input(files: str, fields: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        startable(image(*files.split()), spec(**fields))
    assert caught.value.hint
