"""The host's apt sources: which entries belong to the distribution, and the same archive's other suites.

Sources are written as deb822 stanzas (sources.list(5)).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.packages import read_os_release
from testbed.host.tools import run_tool
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FIELDS = ("CREATED_BY", "TARGET_OF", "REPO_URI", "RELEASE", "COMPONENT", "SOURCESENTRY")
#: the pockets of a release that a stock system runs
POCKETS = ("", "-updates", "-security")
#: what an entry may call the release instead of its codename
ROLLING = ("stable", "testing", "unstable", "sid")
#: what a source entry says about trust; it goes wherever the address goes
TRUST = ("signed-by", "trusted", "check-valid-until", "allow-insecure")


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One release of one archive that the host's apt is configured with."""

    address: str
    release: str  #: codename or suite, as configured
    entry: Path  #: the file that configures it


#: what stands behind a release's name in that of a suite which is an addition to it, never whole by itself
_ADDITION = re.compile(r"-(backports(-sloppy)?|updates|security|proposed(-updates)?)$")


def base_suite(suite: str) -> str:
    """Return the release that a suite builds on: `trixie` for `trixie-backports`, itself for one that is whole."""
    return _ADDITION.sub("", suite)


def stanzas_for(suite: str | None) -> list[str]:
    """Return the source stanzas for another suite of the distribution's archive, or for the running release.

    Third-party entries are left out, so that an unreachable one cannot spoil what is fetched.

    Raises:
        InputError: nothing of the distribution's is configured.
    """
    codename = running_codename()
    archives = distribution_archives(configured_archives(), codename)
    if not archives:
        raise InputError(
            f"looking for packages: no apt source for {codename} is configured",
            hint="see /etc/apt/sources.list.d and sources.list(5)",
        )
    if suite is None:
        return [stanza(archive, archive.release, trust_of(archive)) for archive in archives]
    # the shortest release name is the main archive, not its security one
    main = min(archives, key=lambda archive: len(archive.release))
    return [stanza(main, suite_name(suite), trust_of(main))]


def suite_name(suite: str | None) -> str:
    """Return a suite's name with `{codename}` filled in; the running release's for None."""
    codename = running_codename()
    return suite.replace("{codename}", codename) if suite else codename


def running_codename() -> str:
    """Return the codename of the running release, of its parent distribution for a derivative."""
    release = read_os_release()
    names = ("UBUNTU_CODENAME", "DEBIAN_CODENAME", "VERSION_CODENAME")
    return next((release[name] for name in names if release.get(name)), "sid")


def configured_archives() -> list[Archive]:
    """Return what the host's apt is configured with, whether its package lists were ever fetched or not."""
    form = "\t".join(f"$({field})" for field in _FIELDS)
    argv = ["apt-get", "indextargets", "--no-release-info", "--format", form]
    return parse_index_targets(run_tool(argv, doing="reading the apt sources").decode())


def parse_index_targets(text: str) -> list[Archive]:
    """Read `apt-get indextargets`; binary packages of component main only, each archive once."""
    archives: dict[Archive, None] = {}
    for line in text.splitlines():
        created_by, target_of, address, release, component, entry = line.split("\t")
        if (created_by, target_of, component) == ("Packages", "deb", "main"):
            # `file:number`; addresses hold colons, this one cannot
            archives[Archive(address=address, release=release, entry=Path(entry.rpartition(":")[0]))] = None
    return list(archives)


def distribution_archives(archives: Sequence[Archive], codename: str) -> list[Archive]:
    """Return the entries for the running release: by codename, or else by a name like `testing`."""
    for names in ((codename,), ROLLING):
        releases = {name + pocket for name in names for pocket in POCKETS}
        if found := [archive for archive in archives if archive.release in releases]:
            return found
    return []


def trust_of(archive: Archive) -> dict[str, str]:
    """Return the entry's options about trust: lower-case field name -> what stands after its colon."""
    if not archive.entry.is_file():
        return {}
    text = archive.entry.read_text(encoding="utf-8", errors="replace")
    read = _deb822_entries if archive.entry.suffix == ".sources" else _one_line_entries
    for options in read(text):
        addresses = {address.rstrip("/") for address in options["uris"].split()}
        if archive.address.rstrip("/") in addresses and archive.release in options["suites"].split():
            return {name: options[name] for name in TRUST if name in options}
    return {}


def _deb822_entries(text: str) -> Iterable[Mapping[str, str]]:
    """Yield each stanza's fields; a value over several lines (an inline key) keeps its line breaks."""
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    for block in re.split(r"\n\s*\n", text):
        fields = re.findall(r"^([A-Za-z-]+):(.*(?:\n[ \t].*)*)", block, flags=re.MULTILINE)
        options = {name.lower(): value.rstrip() for name, value in fields}
        if "uris" in options and "suites" in options:
            yield options


def _one_line_entries(text: str) -> Iterable[Mapping[str, str]]:
    """Yield each `deb [name=value …] URI SUITE COMPONENT…` line's options as deb822 would spell them."""
    for match in re.finditer(r"^\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)", text, flags=re.MULTILINE):
        pairs = (word.partition("=") for word in (match[1] or "").split())
        options = {name.lower(): f" {value.replace(',', ' ')}" for name, _, value in pairs}
        yield {**options, "uris": match[2], "suites": match[3]}


def stanza(archive: Archive, suite: str, trust: Mapping[str, str]) -> str:
    """Return the deb822 stanza for a suite of an archive: package lists only, no translations or icons."""
    fields = {
        "Types": " deb",
        "URIs": f" {archive.address}",
        "Suites": f" {suite}",
        "Components": " main",
        "Targets": " Packages",
        **{name.title(): value for name, value in trust.items()},
    }
    return "".join(f"{name}:{value}\n" for name, value in fields.items())
