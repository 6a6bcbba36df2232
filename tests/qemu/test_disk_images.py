"""Disk images that QEMU will not open, or only under protest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.image.disk.disk_name import DiskName
from testbed.image.disk.disk_store import survey_disk
from testbed.image.disk.opened import opened
from testbed.image.store import find_image
from testbed.model.errors import InputError
from tests.disks import Qmp, qcow2_header

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _reader() -> None:
    if find_image("disk-reader") is None:
        pytest.skip("image disk-reader is not built: testbed image build disk-reader")


def quiet(_: str) -> None:
    pass


def test_an_image_that_another_qemu_writes_to_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "used.raw"
    disk.write_bytes(bytes(1 << 20))
    node = {"driver": "raw", "node-name": "disk", "file": {"driver": "file", "filename": str(disk)}}
    with Qmp("-object", "iothread,id=t") as other:
        other.execute("blockdev-add", **node)
        # an export takes the right to write, as a guest's disk does
        other.execute("nbd-server-start", addr={"type": "unix", "data": {"path": str(tmp_path / "nbd")}})
        other.execute("block-export-add", **{"type": "nbd", "id": "x", "node-name": "disk", "writable": True})
        with pytest.raises(InputError, match=r"another process has it open for writing") as caught:
            survey_disk(DiskName(file=disk), progress=quiet)
    assert caught.value.hint
    assert "fuser" in caught.value.hint


def test_a_damaged_image_is_told_in_qemus_words(tmp_path: Path) -> None:
    disk = tmp_path / "damaged.qcow2"
    # its tables are behind its end
    disk.write_bytes(qcow2_header(size=1 << 30)[:4096])
    with pytest.raises(InputError, match=r"QEMU cannot open it: .*qcow2|QEMU cannot open it: .*L1"):
        survey_disk(DiskName(file=disk), progress=quiet)


def test_no_node_opens_by_itself_what_a_header_names(tmp_path: Path) -> None:
    disk = tmp_path / "a.qcow2"
    (tmp_path / "base.raw").write_bytes(bytes(1 << 20))
    disk.write_bytes(qcow2_header(size=1 << 20, backing="base.raw", backing_format="raw"))
    with opened(DiskName(file=disk, backing=True)) as chain:
        node = chain.node()
    assert node["backing"]["driver"] == "raw"
    assert {node["file"]["filename"], node["backing"]["file"]["filename"]} == {"/dev/fdset/1", "/dev/fdset/2"}
    assert node["read-only"]
    assert node["backing"]["read-only"]
    disk.write_bytes(qcow2_header(size=1 << 20))
    with opened(DiskName(file=disk)) as alone:
        assert alone.node()["backing"] is None
