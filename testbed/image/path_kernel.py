"""A kernel that lies on the host: `path:KERNEL[,MODULES]`, of a build tree, or `host`: the running one.

KERNEL is a bzImage or vmlinux, a build tree, or a folder that a package was unpacked into; MODULES is an
INSTALL_MOD_PATH, a `lib/modules/RELEASE` or a build tree. Without MODULES they are looked for around the kernel; a
kernel that has none is taken as it is: everything may be built in.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.image.kernel import read_kernel, read_release
from testbed.image.module_files import (
    BASES,
    ModuleFiles,
    built_modules,
    find_modules,
    given_modules,
    installed_modules,
    is_build_tree,
    link_modules,
)
from testbed.image.source import FetchedKernel, kernels_in
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.image.source import Progress

#: what `make` leaves in a build tree
BUILT = ("arch/x86/boot/bzImage", "vmlinux")
#: how far above a bzImage its build tree begins
DEPTH = 4


@dataclass(frozen=True, kw_only=True)
class PathKernel:
    """A kernel on the host, and its modules."""

    kernel: Path
    modules: Path | None = None  #: None: looked for around the kernel

    def inputs(self) -> list[Path]:
        """Return the kernel, its modules and their tables."""
        kernel = find_kernel_file(self.kernel)
        return [kernel, *self._modules(kernel, _release(kernel)).values()]

    def fetch(self, folder: Path, progress: Progress, wanted: Sequence[str]) -> FetchedKernel:
        """Link kernel and modules together in a folder."""
        kernel = find_kernel_file(self.kernel)
        release = _release(kernel)
        modules = self._modules(kernel, release)
        if not modules:
            progress(f"{kernel}: no modules found, continuing with built-in drivers")
        target = folder / "tree" / "lib" / "modules" / release
        link_modules(modules, target)
        tree = self.build_tree(kernel)
        return FetchedKernel(
            kernel=kernel,
            modules=target,
            release=release,
            package=f"{self.kernel} {release}",
            headers=None if tree is None else lambda: tree,
        )

    def build_tree(self, kernel: Path) -> Path | None:
        """Return where modules can be built for the kernel: its tree, or what its modules link to."""
        modules = [self.modules, self.modules / "build"] if self.modules else []
        places = [*modules, *kernel.parents[:DEPTH], kernel.parent / "build"]
        return next((place for place in places if is_build_tree(place)), None)

    def _modules(self, kernel: Path, release: str) -> ModuleFiles:
        return given_modules(self.modules, release) if self.modules else modules_around(kernel, release)


@dataclass(frozen=True, kw_only=True)
class HostKernel:
    """The running kernel, as its distribution installed it."""

    root: Path = Path("/")
    release: str = field(default_factory=lambda: os.uname().release)

    def inputs(self) -> list[Path]:
        """Return the kernel, its modules and their tables."""
        return self._installed().inputs()

    def fetch(self, folder: Path, progress: Progress, wanted: Sequence[str]) -> FetchedKernel:
        """Link kernel and modules together in a folder."""
        return self._installed().fetch(folder, progress, wanted)

    def _installed(self) -> PathKernel:
        return PathKernel(kernel=self._kernel(), modules=self._modules())

    def _kernel(self) -> Path:
        """Return the kernel's file: Debian and its kin keep it in /boot, Fedora, SUSE and Arch among the modules."""
        places = [self.root / f"boot/vmlinuz-{self.release}", *(folder / "vmlinuz" for folder in self._folders())]
        present = [place for place in places if place.is_file()]
        readable = [place for place in present if os.access(place, os.R_OK)]
        if readable:
            return readable[0]
        if present:
            # Ubuntu keeps it from everybody but root
            raise self._unusable(f"{present[0]} is readable only by root", f"sudo chmod 0644 {present[0]}")
        looked = " nor ".join(map(str, places))
        raise self._unusable(f"found neither {looked}", "reboot if the kernel was just updated")

    def _modules(self) -> Path:
        folder = next((folder for folder in self._folders() if folder.is_dir()), None)
        if folder is None:
            looked = " nor ".join(map(str, self._folders()))
            raise self._unusable(f"found neither {looked}", "reboot if the kernel was just updated")
        return folder

    def _folders(self) -> list[Path]:
        return [self.root / base / self.release for base in BASES]

    def _unusable(self, why: str, mend: str) -> InputError:
        other = "or take another kernel: apt:PACKAGE, path:KERNEL,MODULES, deb:FILE, rpm:FILE"
        return InputError(f"looking for the running kernel {self.release}: {why}", hint=f"{mend}; {other}")


def find_kernel_file(path: Path) -> Path:
    """Return the kernel that a file or folder stands for; raise InputError if there is none, or not just one.

    Of a build tree's bzImage and vmlinux the newer is taken: the other is from an earlier `make`.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"looking for kernel {path}: there is no such file or folder")
    built = [path / name for name in BUILT if (path / name).is_file()]
    if built:
        return max(built, key=lambda file: file.stat().st_mtime_ns)
    kernels = kernels_in(path)
    if len(kernels) != 1:
        raise InputError(
            f"looking for a kernel in {path}: {_found(kernels)}",
            hint=f"name one of them: path:{kernels[0]}" if kernels else f"build it: make -C {path} bzImage modules",
        )
    return kernels[0]


def _found(kernels: list[Path]) -> str:
    if not kernels:
        return f"found neither {' nor '.join(BUILT)} nor boot/vmlinuz-* in it"
    return f"there are {len(kernels)}: {', '.join(kernel.name for kernel in kernels)}"


def modules_around(kernel: Path, release: str) -> ModuleFiles:
    """Return the modules that lie where a kernel's file makes one expect them; empty if there are none."""
    for tree in kernel.parents[:DEPTH]:
        if is_build_tree(tree):
            return built_modules(tree)
    if kernel.parent.name == release:  # lib/modules/RELEASE/vmlinuz
        return installed_modules(kernel.parent)
    for root in kernel.parents[:2]:  # boot/vmlinuz-RELEASE
        if (modules := find_modules(root, release)) is not None:
            return modules
    return {}


def _release(kernel: Path) -> str:
    return read_release(read_kernel(kernel), source=str(kernel))
