"""apt with a state of its own below one folder: it fetches packages and installs nothing.

The host's package lists, cache and status are neither read nor written, and packages are checked by apt's own
signatures and hashes. What it says of a package has the form of a control file (deb-control(5)).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

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
    prefer: str = ""  #: the suite whose packages go before those of others, however new these are

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
        complaint, hint = "", None
        try:
            self._run("apt-get", "update", doing="fetching apt's package lists")
        except BedError as error:
            complaint, hint = error.message, error.hint
        if not any((self.folder / "lists").glob("*_Packages*")):
            raise _nothing_fetched(complaint, hint, suite)
        return complaint

    def show(self, name: str) -> Package | None:
        """Return the newest version of a package, or None if there is none of that name."""
        try:
            text = self._run("apt-cache", "show", "--no-all-versions", name, doing=f"looking for {name}")
        except BedError:
            return None
        # nothing is printed for a name that others only mention
        return parse_package(text) if text.strip() else None

    def resolve(self, names: Sequence[str]) -> list[Package]:
        """Return packages with all that they depend on, as apt would install them on a system that has nothing.

        Alternatives and virtual packages are settled by apt; what these depend on is not asked, `depends` is empty.
        """
        options = ("--print-uris", "--yes", "--no-install-recommends")
        return parse_uris(self._run("apt-get", "install", *options, *names, doing=f"resolving {' '.join(names)}"))

    def download(self, names: Sequence[str]) -> list[Path]:
        """Fetch packages and return their files; without a name there is nothing to fetch."""
        if names:
            # apt-get without one ends with "Handler silently failed"
            self._run("apt-get", "download", *names, doing=f"downloading {' '.join(names)}")
        return sorted((self.folder / "archives").glob("*.deb"))

    def _run(self, *argv: str, doing: str) -> str:
        try:
            output = run_tool(
                argv,
                doing=doing,
                cwd=self.folder / "archives",
                env={"APT_CONFIG": str(self.folder / "apt.conf")},
                quote_output=True,
            )
        except BedError as error:
            sources = (self.folder / "sources" / "bed.sources").read_text(encoding="utf-8")
            hint = error.hint or what_to_do(error.message)
            raise BedError(without_addresses(error.message, sources), hint=hint) from None
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
            **({"APT::Default-Release": self.prefer} if self.prefer else {}),
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


def _nothing_fetched(complaint: str, hint: str | None, suite: str) -> BedError:
    if re.search(r"(does not have|no longer has) a Release file", complaint):
        return InputError(
            f"fetching apt's package lists: the configured archive has no suite {suite}, or no longer has it",
            hint=f"name another suite of this distribution, such as {running_codename()}-backports",
        )
    return BedError(complaint or "fetching apt's package lists: there were none", hint=hint or _UNKNOWN_TROUBLE)


_UNKNOWN_TROUBLE = "try: apt-get update"
#: what apt says (apt-pkg/acquire-item.cc, methods/), and what helps
_TROUBLES = {
    r"NO_PUBKEY|is not signed|EXPKEYSIG|public key is not available": (
        "apt cannot check that suite with the keys its entry names: install a newer debian-archive-keyring (or "
        "ubuntu-keyring)"
    ),
    r"resolve|resolving '|Could not connect|timed out|Unable to connect|unreachable": (
        "check the network; apt takes a proxy from Acquire::http::Proxy in /etc/apt/apt.conf.d"
    ),
    r"is expired|is not valid yet": (
        "this host's clock is wrong, or the mirror is out of date: configure another, or say Check-Valid-Until: no in "
        "its entry"
    ),
    r"404|Hash Sum mismatch|File has unexpected size|Mirror sync": (
        "the archive is changing or incomplete: try again later, or configure another mirror"
    ),
    r"No space left|not have enough free space": "free space where the cache folder is",
    r"unmet dependencies|has no installation candidate|held broken packages": (
        "apt cannot resolve that suite on its own at present: name another, such as its next release"
    ),
}


def what_to_do(complaint: str) -> str:
    """Return what helps against a failure of apt, by its own words."""
    return next((help_ for words, help_ in _TROUBLES.items() if re.search(words, complaint)), _UNKNOWN_TROUBLE)


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


def parse_uris(text: str) -> list[Package]:
    """Read `apt-get install --print-uris`: a line `'URI' NAME_VERSION_ARCH.deb SIZE HASH` each."""
    found = re.findall(r"^'[^']+' ([^_\s]+)_([^_\s]+)_\S+\.deb (\d+)", text, flags=re.MULTILINE)
    return [Package(name=name, version=unquote(version), size=int(size), depends=()) for name, version, size in found]


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
