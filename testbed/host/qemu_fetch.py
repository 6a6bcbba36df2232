"""Fetching a QEMU: another suite's, from the configured apt archive, unpacked into a prefix of the QEMU store.

Nothing is installed and no root is needed. Where the host's libraries do not do, the QEMU's own come along, libc and
dynamic loader included: all of them, as apt resolves them for that suite by itself.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from testbed.host.apt import AptState, Package, check_apt
from testbed.host.apt_sources import base_suite, running_codename, stanzas_for, suite_name
from testbed.host.qemu import probe
from testbed.host.qemu_prefix import Prefix, package_of
from testbed.host.qemu_store import FetchedQemu, draft, find_fetched, keep, locked
from testbed.host.tools import run_tool
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    Progress = Callable[[str], None]

QEMU = "qemu-system-x86"
#: what it cannot do without, and the network cards' option ROMs
_PARTS = (QEMU, "qemu-system-common", "qemu-system-data", "seabios", "ipxe-qemu")
#: UEFI firmware, which is not QEMU's own
_FIRMWARE = "ovmf"
#: every module of its own build, lest it finds those of the host's QEMU
_MODULES = ("qemu-system-modules-opengl", "qemu-system-modules-spice", "qemu-system-gui", "qemu-block-extra")
_SUITE = re.compile(r"[a-z][a-z0-9.-]*")
_LIBRARY = re.compile(r"lib|zlib1g$")


def fetch_qemu(name: str, *, progress: Progress) -> FetchedQemu:
    """Fetch the QEMU of a suite, unless the store has that version, and return it.

    The name may hold `{codename}`. Without one it is the newest that runs on the host's own libraries: the running
    release's backports, or the release itself where these have none.

    Raises:
        InputError: the host has no apt, the archive no such suite, or the suite no QEMU.
        BedError: the archive cannot be reached, or its QEMU does not run here.
    """
    check_apt("fetching a QEMU", hint="build or install another QEMU and pass its path with --qemu")
    wanted = _suites(name)
    with locked(on_wait=lambda: progress("waiting for another fetch")):
        for suite in wanted[:-1]:
            try:
                return _fetch(suite, progress)
            except InputError as error:
                progress(error.message)
        return _fetch(wanted[-1], progress)


def _suites(name: str) -> list[str]:
    if not name:
        codename = running_codename()
        return [f"{codename}-backports", codename]
    name = suite_name(name)
    if not _SUITE.fullmatch(name):
        raise InputError(
            f"fetching QEMU {name!r}: not the name of a suite",
            hint=f"for example: testbed qemu fetch {running_codename()}-backports",
        )
    return [name]


def _fetch(suite: str, progress: Progress) -> FetchedQemu:
    try:
        with draft() as scratch:
            return _fetch_into(scratch, suite, progress)
    except OSError as error:
        raise BedError(f"fetching QEMU of {suite}: {error}", hint="free space where the cache folder is") from error


def _fetch_into(scratch: Path, suite: str, progress: Progress) -> FetchedQemu:
    progress(f"looking for {QEMU} in {suite}")
    packages = _Packages(suite, scratch)
    chosen = packages.of_qemu()
    versions = {package.name: package.version for package in chosen}
    there = find_fetched(suite)
    if there and there.packages.items() >= versions.items() and _runs(there.prefix):
        progress(f"{suite} has nothing newer than QEMU {_upstream(versions[QEMU])}, which this host already has")
        return there
    prefix = Prefix(root=scratch / "prefix")
    what = f"QEMU {_upstream(versions[QEMU])}"
    packages.unpack(chosen, prefix, f"{what} of {suite}", progress)
    if missing := prefix.missing_libraries():
        libraries = packages.libraries()
        progress(f"this host lacks {_named(missing, [each.name for each in libraries])}")
        packages.unpack(libraries, prefix, f"libraries for {what}", progress)
        versions |= {package.name: package.version for package in libraries}
        _check_libraries(prefix, suite, [each.name for each in libraries])
    progress(f"probing {what}")
    probe(prefix.binary)
    return keep(prefix, suite, versions)


def _check_libraries(prefix: Prefix, suite: str, packages: Sequence[str]) -> None:
    if missing := prefix.missing_libraries():
        raise BedError(
            f"fetching QEMU of {suite}: it cannot run here: it lacks {_named(missing, packages)}",
            hint=f"fetch one built for this release: testbed qemu fetch {running_codename()}-backports",
        )


def _runs(prefix: Prefix) -> bool:
    try:
        probe(prefix.binary)
    except InputError:
        return False
    return True


def _upstream(version: str) -> str:
    """Return QEMU's own version: `10.0.2` of `1:10.0.2+ds-2`."""
    return re.sub(r"^\d+:|[^0-9.:].*$", "", version)


def _named(libraries: Iterable[str], packages: Sequence[str]) -> str:
    """Return libraries as text, each with the package that has it."""
    with_package = ((library, package_of(library, packages)) for library in libraries)
    return ", ".join(f"{library} (package {package})" if package else library for library, package in with_package)


class _Packages:
    """The packages of a suite and, for what it has not, those of the release it builds on."""

    def __init__(self, suite: str, folder: Path) -> None:
        self.suite = suite
        self._folder = folder
        # the running release comes with its updates
        stanzas = stanzas_for(None if suite == running_codename() else suite)
        self._own = AptState(folder=folder / "apt")
        self._complaint = self._own.update(stanzas, suite)
        self._stanzas = stanzas

    @cached_property
    def _whole(self) -> AptState:
        """Return what apt knows of the suite and its release together."""
        base = base_suite(self.suite)
        if base == self.suite:
            return self._own
        state = AptState(folder=self._folder / "apt-whole", prefer=self.suite)
        state.update([*self._stanzas, *stanzas_for(None if base == running_codename() else base)], self.suite)
        return state

    def of_qemu(self) -> list[Package]:
        """Return the packages that make a QEMU; raise InputError if the suite has none."""
        if self._own.show(QEMU) is None:
            complaint = f"; apt said: {self._complaint}" if self._complaint else ""
            raise InputError(
                f"fetching QEMU of {self.suite}: that suite of the configured archive has no package {QEMU}{complaint}",
                hint=f"for example: testbed qemu fetch {running_codename()}-backports",
            )
        parts = [package for package in self._resolved if package.name in (*_PARTS, _FIRMWARE)]
        # of the suite alone: those of its release are of another build
        return [*parts, *(package for name in _MODULES if (package := self._own.show(name)))]

    def libraries(self) -> list[Package]:
        """Return every library package that QEMU depends on, whatever lies between."""
        return [package for package in self._resolved if _LIBRARY.match(package.name)]

    @cached_property
    def _resolved(self) -> list[Package]:
        return self._whole.resolve([name for name in (*_PARTS, _FIRMWARE) if self._whole.show(name)])

    def unpack(self, packages: Sequence[Package], prefix: Prefix, what: str, progress: Progress) -> None:
        """Download packages, which apt checks, and unpack them into a prefix."""
        megabytes = sum(package.size for package in packages) / 1e6
        progress(f"downloading {what}: {len(packages)} packages, {megabytes:.0f} MB")
        files = self._whole.download([package.name for package in packages])
        progress(f"unpacking {what}")
        prefix.root.mkdir(exist_ok=True)
        for file in files:
            run_tool(["dpkg-deb", "-x", file, prefix.root], doing=f"unpacking {file.name}")
            file.unlink()
