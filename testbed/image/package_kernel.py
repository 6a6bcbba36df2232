"""A kernel from package files: `deb:FILE[,FILE…]` and `rpm:FILE[,FILE…]`.

A kernel that is split over several packages (Ubuntu, Fedora, RHEL) is put together again: from the files given, and
from those beside them in the same folder that belong to the same kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.image.package_file import describe_deb, describe_rpm, unpack_deb, unpack_rpm
from testbed.image.source import find_kernel, kernels_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from testbed.image.package_file import PackageFile
    from testbed.image.source import FetchedKernel, Progress


@dataclass(frozen=True, kw_only=True)
class PackageFormat:
    """How package files of one format are read."""

    describe: Callable[[Path], PackageFile]
    unpack: Callable[[Path, Path], None]


FORMATS = {
    "deb": PackageFormat(describe=describe_deb, unpack=unpack_deb),
    "rpm": PackageFormat(describe=describe_rpm, unpack=unpack_rpm),
}


@dataclass(frozen=True, kw_only=True)
class PackageKernel:
    """The kernel in package files."""

    format: str  #: a key of FORMATS
    files: tuple[Path, ...]

    def inputs(self) -> list[Path]:
        """Return the files given, and those beside them that are taken along."""
        return [package.path for package in self._packages()]

    def fetch(self, folder: Path, progress: Progress, wanted: Sequence[str]) -> FetchedKernel:
        """Unpack every package; raise InputError if one is damaged, or the kernel or its modules are missing."""
        packages = self._packages()
        holder = packages[0].label
        for package in packages:
            progress(f"unpacking {package.path.name}")
            before = len(kernels_in(folder / "package"))
            FORMATS[self.format].unpack(package.path, folder / "package")
            if len(kernels_in(folder / "package")) > before:
                holder = package.label
        return find_kernel(folder, holder, hint=self._hint(packages))

    def _packages(self) -> list[PackageFile]:
        """Follow the files given to all parts of the kernel; of two packages of one name the first counts."""
        packages: dict[str, PackageFile] = {}
        waiting = list(self.files)
        while waiting:
            package = FORMATS[self.format].describe(waiting.pop(0))
            if package.name not in packages:
                packages[package.name] = package
                waiting += package.beside
        return list(packages.values())

    def _hint(self, packages: list[PackageFile]) -> str:
        held = {package.name for package in packages}
        wanted = dict.fromkeys(part for package in packages for part in package.parts if part not in held)
        form = f"{self.format}:FILE,FILE"
        if wanted:
            return f"the rest may be in {', '.join(wanted)}: put them next to it, or give them all as {form}"
        return f"give the package of a kernel image, and that of its modules if it is another, as {form}"
