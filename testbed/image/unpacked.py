"""An unpacked kernel package, or several in one folder: where kernel and modules lie in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.image.kernel import read_release
from testbed.image.source import FetchedKernel
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

#: Debian; usrmerged distributions; Fedora
KERNELS = ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz", "lib/modules/*/vmlinuz")
MODULES = ("usr/lib/modules", "lib/modules")


def kernels_in(root: Path) -> list[Path]:
    """Return the kernels below a root folder, those of packages that hold theirs twice included."""
    found = (path for pattern in KERNELS for path in sorted(root.glob(pattern)))
    # a link may point out of the package
    return [path for path in found if path.is_file() and not path.is_symlink()]


def find_kernel(folder: Path, package: str, *, hint: str | None = None) -> FetchedKernel:
    """Find kernel and modules below `folder/package`, and put the modules where depmod can work."""
    unpacked = folder / "package"
    kernels = {read_release(path.read_bytes(), source=package): path for path in reversed(kernels_in(unpacked))}
    if len(kernels) != 1:
        raise InputError(f"unpacking {package}: wanted one kernel in it, found {len(kernels)}", hint=hint)
    ((release, kernel),) = kernels.items()
    modules = _find_modules(unpacked, package, release, hint)
    target = folder / "tree" / "lib" / "modules" / release
    target.parent.mkdir(parents=True)
    # the kernel first: it may lie among the modules
    kernel = kernel.rename(folder / "tree" / "kernel")
    modules = modules.rename(target)
    # depmod shall see all packages' modules: what a package brings knows its own alone
    (modules / "modules.dep").unlink(missing_ok=True)
    return FetchedKernel(kernel=kernel, modules=modules, release=release, package=package)


def _find_modules(unpacked: Path, package: str, release: str, hint: str | None) -> Path:
    folders = [folder for base in MODULES for folder in (unpacked / base).glob("*") if any(folder.rglob("*.ko*"))]
    found = next((folder for folder in folders if folder.name == release), None)
    if found is None:
        others = f", but some for {', '.join(folder.name for folder in folders)}" if folders else ""
        raise InputError(f"unpacking {package}: it holds no modules for its kernel {release}{others}", hint=hint)
    return found
