"""The disk whose own user space is to run, found by the name of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.image.disk.disk_name import is_disk, read_disk_name
from testbed.image.recipe import image_name
from testbed.machine.system_disk import SystemDisk
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from testbed.image.source import Progress


def find_system(image: str, progress: Progress) -> SystemDisk:
    """Return the disk of an image; raise InputError if it is not one, or cannot be read."""
    name = image_name(image)
    if not is_disk(name):
        raise InputError(f"image {image} has no user space of its own", hint="give a disk: --image disk:FILE")
    # surveys are for disks, and most cells have none
    from testbed.image.disk.disk_store import disk_digest, survey_disk  # noqa: PLC0415
    from testbed.image.disk.opened import opened  # noqa: PLC0415

    disk = read_disk_name(name)
    with opened(disk) as files:
        size = files.size
    if size is None:
        size = survey_disk(disk, progress=progress).size
    return SystemDisk(name=disk, size=size, digest=disk_digest(disk, progress=progress))
