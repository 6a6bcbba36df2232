"""Disk images of every format, read by a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.image.disk.disk_name import DiskName
from testbed.image.disk.disk_store import survey_disk
from tests.disks import converted, ext4, mbr_disk, sha256

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.extended
@pytest.mark.seconds(20)
@pytest.mark.parametrize("image_format", ["qcow2", "vmdk", "vdi", "vhdx"])
def test_formats(image_format: str, tmp_path: Path) -> None:
    system = ext4(tmp_path, {"etc/os-release": b"NAME=A\n", "etc/crontab": bytes(range(256)) * 999})
    disk = converted(mbr_disk(tmp_path / "disk.raw", [system]), image_format)
    before = sha256(disk)
    records = survey_disk(DiskName(file=disk), progress=print)
    assert sha256(disk) == before
    assert (records.table, records.volume("vda1").files["etc/crontab"].content) == ("mbr", bytes(range(256)) * 999)
