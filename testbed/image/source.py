"""A kernel source: what puts a kernel and a modules tree into a folder, and where those lie in an unpacked package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from testbed.image.kernel import read_release
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: where packages keep the kernel: Debian; usrmerged distributions; Fedora
KERNELS = ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz", "lib/modules/*/vmlinuz")
MODULES = ("usr/lib/modules", "lib/modules")
#: told one short line before each step that takes a while
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class FetchedKernel:
    """A kernel on the disk, unpacked."""

    kernel: Path  #: a bzImage or an ELF vmlinux
    modules: Path  #: `<anything>/lib/modules/<release>`, where depmod can work or has worked
    release: str  #: as `uname -r` gives it
    package: str  #: what a person calls this build, such as `linux-image-6.1.0-56-amd64 6.1.192-2`
    #: gives the folder in which `make` builds modules for it, fetched if need be; None if there is none
    headers: Callable[[], Path] | None = None


class KernelSource(Protocol):
    """Where a recipe's kernel comes from."""

    def inputs(self) -> Sequence[Path]:
        """Return the host's files the kernel is made of; raise InputError if one is missing or unusable.

        An image is stale as soon as one of them has changed.
        """
        ...

    def fetch(self, folder: Path, progress: Progress, wanted: Sequence[str]) -> FetchedKernel:
        """Put the kernel into an empty folder; raise InputError if the source has no such kernel.

        `wanted` are the modules that will be used: a source that pays for each may leave out all but what they need.
        """
        ...


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
