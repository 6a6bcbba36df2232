"""A kernel from the host's apt archive, fetched and unpacked without being installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.host.apt import AptState, Package, check_apt, follow
from testbed.host.apt_sources import stanzas_for, suite_name
from testbed.image.package_file import DEB_PART, unpack_deb
from testbed.image.source import find_kernel
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from testbed.image.source import FetchedKernel, Progress


@dataclass(frozen=True, kw_only=True)
class AptKernel:
    """The kernel that a package, or what the package depends on, holds."""

    package: str
    suite: str | None  #: None: the running release; may hold `{codename}`

    def inputs(self) -> list[Path]:
        """Return nothing: what the archive holds is asked again only when somebody wants a newer kernel."""
        return []

    def fetch(self, folder: Path, progress: Progress, wanted: Sequence[str]) -> FetchedKernel:
        """Fetch the kernel into an empty folder; raise InputError for an unknown package or suite."""
        check_apt(
            f"fetching kernel package {self.package}",
            hint="build images on Debian or Ubuntu, or in a container of theirs",
        )
        progress(f"looking for {self.package} in {suite_name(self.suite)}")
        state = AptState(folder=folder / "apt")
        complaint = state.update(stanzas_for(self.suite), suite_name(self.suite))
        packages = find_parts(lambda name: self._show(state, name, complaint), self.package)
        megabytes = sum(package.size for package in packages) / 1e6
        kernel = name_kernel(packages)
        progress(f"downloading {kernel} ({megabytes:.0f} MB)")
        archives = state.download([package.name for package in packages])
        progress(f"unpacking {kernel}")
        for archive in archives:
            unpack_deb(archive, folder / "package")
        return find_kernel(folder, kernel)

    def _show(self, state: AptState, name: str, complaint: str) -> Package:
        package = state.show(name)
        if package is None:
            complaints = f"; apt said: {complaint}" if complaint else ""
            raise InputError(
                f"looking for kernel package {name}: not found in suite {suite_name(self.suite)} of the "
                f"configured archive{complaints}",
                hint="name another suite in the recipe's kernel: apt:PACKAGE@SUITE",
            )
        return package


def find_parts(show: Callable[[str], Package], name: str) -> list[Package]:
    """Follow a (meta) package to every package that holds a part of the kernel, itself included."""
    return follow(show, [name], DEB_PART)


def name_kernel(packages: Sequence[Package]) -> str:
    """Return `package version` of the image package that no other image package stands behind."""
    images = [package for package in packages if package.name.startswith("linux-image-")]
    named = (images or packages)[-1]
    return f"{named.name} {named.version}"
