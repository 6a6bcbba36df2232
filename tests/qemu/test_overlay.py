"""What a machine lays over a disk that it must not write to, as QEMU sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.machine.overlay import empty_overlay
from tests.disks import Qmp

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [512, (1 << 30) + 512, 3 << 40])
def test_an_empty_overlay_is_a_qcow2_that_shows_what_is_below(tmp_path: Path, size: int) -> None:
    (tmp_path / "overlay.qcow2").write_bytes(empty_overlay(size))
    below = tmp_path / "below.raw"
    with below.open("wb") as file:
        file.truncate(size)
    node = {
        "driver": "qcow2",
        "node-name": "disk",
        "file": {"driver": "file", "filename": str(tmp_path / "overlay.qcow2")},
        "backing": {"driver": "raw", "read-only": True, "file": {"driver": "file", "filename": str(below)}},
    }
    with Qmp() as qemu:
        qemu.execute("blockdev-add", **node)
        (info,) = [each for each in qemu.query("query-named-block-nodes") if each["node-name"] == "disk"]
        assert info["image"]["virtual-size"] == size
        assert not info["image"]["format-specific"]["data"]["corrupt"]
