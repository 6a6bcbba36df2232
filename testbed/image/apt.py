"""A kernel from the host's apt archive, fetched and unpacked without being installed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
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


#: of the packages that linux-headers-RELEASE depends on, those that kbuild needs
_HEADERS = re.compile(r"linux-(headers|kbuild)-")


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
        found = find_kernel(folder, kernel)
        headers = partial(_fetch_headers, state, found.release, folder / "headers", progress)
        return replace(found, headers=headers)

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


def _fetch_headers(state: AptState, release: str, folder: Path, progress: Progress) -> Path:
    """Fetch and unpack what Debian's modules are built with; raise InputError if the archive has it no longer.

    What they include of each other they name as it would be installed, and so find each other by relative links, save
    for one Makefile.
    """
    name = f"linux-headers-{release}"
    packages = follow(state.show, [name], _HEADERS)
    if not packages:
        raise InputError(f"drivers: the archive has no {name}", hint="build the image again, with its newest kernel")
    progress(f"downloading {name} ({sum(package.size for package in packages) / 1e6:.0f} MB)")
    names = {package.name for package in packages}
    for archive in state.download(sorted(names)):
        if archive.name.partition("_")[0] in names:
            unpack_deb(archive, folder)
    place = folder / "usr/src" / name
    makefile = place / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{folder}/usr/src/"))
    return place


def find_parts(show: Callable[[str], Package], name: str) -> list[Package]:
    """Follow a (meta) package to every package that holds a part of the kernel, itself included."""
    return follow(show, [name], DEB_PART)


def name_kernel(packages: Sequence[Package]) -> str:
    """Return `package version` of the image package that no other image package stands behind."""
    images = [package for package in packages if package.name.startswith("linux-image-")]
    named = (images or packages)[-1]
    return f"{named.name} {named.version}"
