"""The kernel in a disk image: `disk:FILE`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.image.disk.choice import chosen_kernel, chosen_system, closed_volumes
from testbed.image.disk.disk_modules import module_wants, write_modules, write_tables
from testbed.image.disk.disk_store import read_files, survey_disk
from testbed.image.disk.opened import opened
from testbed.image.disk.reader import MAX_FILE, Want
from testbed.image.disk.root_volume import root_volume
from testbed.image.source import FetchedKernel
from testbed.model.errors import InputError
from testbed.model.printable import harmless

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from testbed.image.disk.disk_name import DiskName
    from testbed.image.disk.records import DiskRecords
    from testbed.image.disk.root_volume import RootVolume
    from testbed.image.disk.survey import DiskKernelFile
    from testbed.image.source import Progress


@dataclass(frozen=True, kw_only=True)
class DiskKernel:
    """The kernel that a disk boots, and its modules."""

    disk: DiskName

    def inputs(self) -> list[Path]:
        """Return the files of the image."""
        with opened(self.disk) as disk:
            return disk.paths

    def root(self, progress: Progress) -> RootVolume:
        """Return where the root of the disk's system is; raise InputError if there is none to be switched to."""
        survey = survey_disk(self.disk, progress=progress)
        return root_volume(self.disk, chosen_system(self.disk, survey), survey)

    def fetch(self, folder: Path, progress: Progress, wanted: Sequence[str]) -> FetchedKernel:
        """Take the kernel and the modules out of the disk; raise InputError if it has no kernel, or not just one."""
        survey = survey_disk(self.disk, progress=progress)
        kernel = chosen_kernel(self.disk, chosen_system(self.disk, survey))
        target = folder / "tree" / "lib" / "modules" / kernel.release
        target.mkdir(parents=True)
        wants = [Want(kind="path", pattern=kernel.path, volume=kernel.volume, limit=MAX_FILE)]
        if kernel.modules:
            name, base = kernel.modules
            write_tables(survey.volume(name), base, target)
            wants += module_wants(name, base, target, wanted)
        else:
            closed = closed_volumes(survey)
            why = f" ({closed})" if closed else ""
            progress(f"{kernel.release}: no modules found{why}, continuing with built-in drivers")
        read = read_files(self.disk, wants, progress=progress)
        place = folder / "tree" / "kernel"
        place.write_bytes(_content(read, kernel))
        if kernel.modules:
            write_modules(read.volume(kernel.modules[0]), kernel.modules[1], target)
        label = f"{self.disk.file.name} {kernel.release}"
        return FetchedKernel(kernel=place, modules=target, release=kernel.release, package=label)


def _content(read: DiskRecords, kernel: DiskKernelFile) -> bytes:
    file = read.volume(kernel.volume).files.get(kernel.path)
    if file is None or file.error or len(file.content) != file.size:
        why = file.error if file else "it is gone"
        raise InputError(f"disk image: reading {harmless(f'{kernel.volume}:/{kernel.path}')}: {why or 'it is too big'}")
    return file.content
