"""apt with a state of its own below one folder: it fetches packages and installs nothing.

The host's package lists, cache and status are neither read nor written, and packages are checked by apt's own
signatures and hashes. What it says of a package has the form of a control file (deb-control(5)).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.host.apt_sources import running_codename
from testbed.host.packages import find_program
from testbed.host.tools import run_tool
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def check_apt(doing: str, *, hint: str) -> None:
    """Raise InputError, which `doing` begins, on a host without apt."""
    if not find_program("apt-get"):
        raise InputError(f"{doing}: this host has no apt", hint=hint)


@dataclass(frozen=True, kw_only=True)
class Package:
    """One version of a binary package, as apt's lists describe it."""

    name: str
    version: str
    size: int  #: bytes to download
    depends: tuple[str, ...]  #: package names, the first of each set of alternatives


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
        # nothing is printed for a name that others only mention
        return parse_package(text) if text.strip() else None

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
            hint=f"name another suite of this distribution, such as {running_codename()}-backports",
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


def read_fields(text: str) -> dict[str, str]:
    """Return the one-line fields of the first record of a control file."""
    return dict(re.findall(r"^([A-Za-z-]+): (.*)", text.partition("\n\n")[0], flags=re.MULTILINE))


def dependencies(field: str) -> tuple[str, ...]:
    """Return the names in a Depends field such as `kmod, a (>= 2) | b`: the first of each alternative."""
    alternatives = (part.split("|")[0].split() for part in field.split(","))
    return tuple(words[0].split(":")[0] for words in alternatives if words)


def follow(show: Callable[[str], Package | None], names: Sequence[str], wanted: re.Pattern[str]) -> list[Package]:
    """Return the packages of these names and, through their dependencies, every one whose name is wanted.

    Names that `show` knows nothing of are left out.
    """
    found: dict[str, Package | None] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = package = show(name)
            waiting += [needed for needed in (package.depends if package else ()) if wanted.match(needed)]
    return [package for package in found.values() if package]
