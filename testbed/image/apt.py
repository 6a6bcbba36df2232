"""A kernel from the host's apt archive, fetched and unpacked without being installed.

apt works on a state of its own below the given folder: the host's package lists, cache and status are neither
read nor written, and packages are checked by apt's own signatures and hashes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.host.packages import find_program
from testbed.host.tools import run_tool
from testbed.image.apt_sources import running_codename, stanzas_for
from testbed.image.deb import PART, dependencies, read_fields, unpack
from testbed.image.unpacked import find_kernel
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from testbed.image.source import FetchedKernel, Progress


@dataclass(frozen=True, kw_only=True)
class Package:
    """One version of a binary package, as apt's lists describe it."""

    name: str
    version: str
    size: int  #: bytes to download
    depends: tuple[str, ...]  #: package names, the first of each set of alternatives


@dataclass(frozen=True, kw_only=True)
class AptKernel:
    """The kernel that a package, or what the package depends on, holds."""

    package: str
    suite: str | None  #: None: the running release; may hold `{codename}`

    def inputs(self) -> list[Path]:
        """Return nothing: what the archive holds is asked again only when somebody wants a newer kernel."""
        return []

    def fetch(self, folder: Path, progress: Progress) -> FetchedKernel:
        """Fetch the kernel into an empty folder; raise InputError for an unknown package or suite."""
        if not find_program("apt-get"):
            raise InputError(
                f"fetching kernel package {self.package}: this host has no apt",
                hint="build images on Debian or Ubuntu, or in a container of theirs",
            )
        progress(f"looking for {self.package} in {self._suite_name()}")
        state = AptState(folder=folder / "apt")
        complaint = state.update(stanzas_for(self.suite), self._suite_name())
        packages = find_parts(lambda name: self._show(state, name, complaint), self.package)
        megabytes = sum(package.size for package in packages) / 1e6
        kernel = name_kernel(packages)
        progress(f"downloading {kernel} ({megabytes:.0f} MB)")
        archives = state.download([package.name for package in packages])
        progress(f"unpacking {kernel}")
        for archive in archives:
            unpack(archive, folder / "package")
        return find_kernel(folder, kernel)

    def _suite_name(self) -> str:
        codename = running_codename()
        return self.suite.replace("{codename}", codename) if self.suite else codename

    def _show(self, state: AptState, name: str, complaint: str) -> Package:
        package = state.show(name)
        if package is None:
            told = f"; apt said: {complaint}" if complaint else ""
            raise InputError(
                f"looking for kernel package {name}: there is none in suite {self._suite_name()} of the "
                f"configured archive{told}",
                hint="other suites are written as apt:PACKAGE@SUITE in the recipe's kernel",
            )
        return package


@dataclass(frozen=True, kw_only=True)
class AptState:
    """A private apt: its configuration, package lists and downloads below one folder."""

    folder: Path

    def update(self, stanzas: Sequence[str], suite: str) -> str:
        """Fetch the package lists of the given sources; return what apt complained about, if it could go on.

        Raises:
            InputError: the archive has no such suite.
            BedError: no package list could be fetched at all.
        """
        for name in ("lists/partial", "cache/archives/partial", "sources", "archives"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "status").touch()
        (self.folder / "sources" / "bed.sources").write_text("\n".join(stanzas), encoding="utf-8")
        (self.folder / "apt.conf").write_text(self._configuration(), encoding="utf-8")
        complaint = ""
        try:
            self._run("apt-get", "update", doing="fetching apt's package lists")
        except BedError as error:
            complaint = error.message
        if not any((self.folder / "lists").glob("*_Packages*")):
            raise _nothing_fetched(complaint, suite)
        return complaint

    def show(self, name: str) -> Package | None:
        """Return the newest version of a package, or None if there is none of that name."""
        try:
            text = self._run("apt-cache", "show", "--no-all-versions", name, doing=f"looking for {name}")
        except BedError:
            return None
        return parse_package(text)

    def download(self, names: Sequence[str]) -> list[Path]:
        """Fetch packages and return their files."""
        self._run("apt-get", "download", *names, doing=f"downloading {' '.join(names)}")
        return sorted((self.folder / "archives").glob("*.deb"))

    def _run(self, *argv: str, doing: str) -> str:
        try:
            output = run_tool(
                argv,
                doing=doing,
                cwd=self.folder / "archives",
                env={"APT_CONFIG": str(self.folder / "apt.conf")},
            )
        except BedError as error:
            sources = (self.folder / "sources" / "bed.sources").read_text(encoding="utf-8")
            raise BedError(without_addresses(error.message, sources), hint=error.hint) from None
        return output.decode()

    def _configuration(self) -> str:
        """Return an apt.conf: how the host fetches (proxies and such), everything else its own.

        The host's own files stay out because they bring hooks, pins and further targets.
        """
        host = run_tool(["apt-config", "dump"], doing="reading apt's configuration").decode()
        fetching = [line for line in host.splitlines() if line.startswith("Acquire::")]
        return "\n".join([*fetching, *self._settings(), ""])

    def _settings(self) -> list[str]:
        own = {
            "Dir::State::lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "Dir::Etc::sourceparts": self.folder / "sources",
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",  # not the host's foreign ones
            "APT::Sandbox::User": "root",  # apt's own user may not write here
            "APT::Update::Error-Mode": "any",  # say so by the exit status when one source could not be read
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "20",
            "Acquire::https::Timeout": "20",
        }
        return [f'{name} "{value}";' for name, value in own.items()]


def _nothing_fetched(complaint: str, suite: str) -> BedError:
    if "does not have a Release file" in complaint:
        return InputError(
            f"fetching apt's package lists: the configured archive has no suite {suite}",
            hint="name another suite, or none, after the @ of the recipe's kernel",
        )
    return BedError(
        complaint or "fetching apt's package lists: there were none",
        hint="try: apt-get update",
    )


def without_addresses(text: str, sources: str) -> str:
    """Return apt's words without addresses and host names of `sources`: reports go to people elsewhere."""
    text = re.sub(r"\b[a-z+]+:/\S+", "the archive", text)
    for host in set(re.findall(r"://([^/:\s]+)", sources)):
        text = text.replace(host, "the archive's host")
    return text


def parse_package(text: str) -> Package:
    """Read the first record of `apt-cache show`."""
    fields = read_fields(text)
    return Package(
        name=fields["Package"],
        version=fields["Version"],
        size=int(fields["Size"]),
        depends=dependencies(fields.get("Depends", "")),
    )


def find_parts(show: Callable[[str], Package], name: str) -> list[Package]:
    """Follow a (meta) package to every package that holds a part of the kernel, itself included."""
    found: dict[str, Package] = {}
    waiting = [name]
    while waiting:
        wanted = waiting.pop(0)
        if wanted not in found:
            found[wanted] = show(wanted)
            waiting += [needed for needed in found[wanted].depends if PART.match(needed)]
    return list(found.values())


def name_kernel(packages: Sequence[Package]) -> str:
    """Return `package version` of the image package that no other image package stands behind."""
    images = [package for package in packages if package.name.startswith("linux-image-")]
    named = (images or packages)[-1]
    return f"{named.name} {named.version}"
