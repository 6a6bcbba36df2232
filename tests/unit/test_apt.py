"""Kernels from apt: what apt prints, which packages hold a kernel, which sources are the distribution's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.host import apt, apt_sources
from testbed.host.apt import AptState, Package, parse_package, parse_uris, what_to_do
from testbed.host.apt_sources import Archive, distribution_archives, parse_index_targets, stanza, trust_of
from testbed.image.apt import AptKernel, find_parts, name_kernel
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

META = """\
Package: linux-image-amd64
Source: linux-signed-amd64 (6.1.192+2)
Version: 6.1.192-2
Installed-Size: 13
Architecture: amd64
Depends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)
Description-en: Linux for 64-bit PCs (meta-package)
 This package depends on the latest Linux kernel and modules for use on PCs
 with AMD64 processors.
Filename: pool/main/l/linux-signed-amd64/linux-image-amd64_6.1.192-2_amd64.deb
Size: 1484

Package: linux-image-amd64
Version: 6.1.170-1
Size: 1480
"""
INDEX_TARGETS = (
    "Packages\tdeb\thttp://a.example/debian/\tbookworm\tmain\t/etc/apt/sources.list.d/debian.sources:1\n"
    "Packages\tdeb\thttp://a.example/debian/\tbookworm\tmain\t/etc/apt/sources.list.d/debian.sources:1\n"
    "Translations\tdeb\thttp://a.example/debian/\tbookworm\tmain\t/etc/apt/sources.list.d/debian.sources:1\n"
    "Packages\tdeb\thttp://a.example/debian/\tbookworm\tcontrib\t/etc/apt/sources.list.d/debian.sources:1\n"
    "Packages\tdeb\thttp://a.example/debian/\tbookworm-updates\tmain\t/etc/apt/sources.list.d/debian.sources:1\n"
    "Packages\tdeb\thttp://a.example/debian/\tbookworm-backports\tmain\t/etc/apt/sources.list:4\n"
    "Packages\tdeb\thttp://s.example/sec/\tbookworm-security\tmain\t/etc/apt/sources.list.d/debian.sources:2\n"
    "Packages\tdeb\thttps://other.example/linux/\tbookworm\tstable\t/etc/apt/sources.list.d/other.list:1\n"
    "Packages\tdeb\thttps://other.example/apt/\tbookworm-pgdg\tmain\t/etc/apt/sources.list.d/pg.list:1\n"
)


def package(name: str, *depends: str, version: str = "1-1") -> Package:
    return Package(name=name, version=version, size=1, depends=depends)


def follow(packages: Mapping[str, Package], name: str) -> list[str]:
    return [found.name for found in find_parts(packages.__getitem__, name)]


def test_newest_record_is_read() -> None:
    assert parse_package(META) == Package(
        name="linux-image-amd64", version="6.1.192-2", size=1484, depends=("linux-image-6.1.0-56-amd64",)
    )


def test_first_alternative_counts() -> None:
    text = "Package: p\nVersion: 1\nSize: 2\nDepends: kmod:any, initramfs-tools (>= 0.120) | dracut, a|b\n"
    assert parse_package(text).depends == ("kmod", "initramfs-tools", "a")


def test_meta_package_leads_to_the_kernel() -> None:
    real = package("linux-image-6.1.0-56-amd64", "kmod", "linux-base", "initramfs-tools", version="6.1.192-2")
    packages = {"linux-image-amd64": parse_package(META), real.name: real}
    assert follow(packages, "linux-image-amd64") == ["linux-image-amd64", "linux-image-6.1.0-56-amd64"]
    assert name_kernel(list(packages.values())) == "linux-image-6.1.0-56-amd64 6.1.192-2"


def test_kernel_split_over_packages() -> None:
    """Debian since 7.x, and Ubuntu, keep image, modules and lists in packages of their own."""
    version = "7.2.13+deb14-amd64"
    packages = {
        "linux-image-amd64": package("linux-image-amd64", "linux-base-amd64", f"linux-image-{version}"),
        "linux-base-amd64": package("linux-base-amd64", f"linux-base-{version}"),
        f"linux-image-{version}": package(
            f"linux-image-{version}", "dracut", f"linux-binary-{version}", f"linux-modules-{version}"
        ),
        f"linux-binary-{version}": package(f"linux-binary-{version}", f"linux-base-{version}"),
        f"linux-modules-{version}": package(f"linux-modules-{version}", "kmod", f"linux-base-{version}"),
        f"linux-base-{version}": package(f"linux-base-{version}"),
    }
    assert sorted(follow(packages, "linux-image-amd64")) == sorted(packages)
    found = find_parts(packages.__getitem__, "linux-image-amd64")
    assert name_kernel(found) == f"linux-image-{version} 1-1"


def test_circular_dependencies_end() -> None:
    packages = {"linux-image-a": package("linux-image-a", "linux-base-a")}
    packages["linux-base-a"] = package("linux-base-a", "linux-image-a")
    assert follow(packages, "linux-image-a") == ["linux-image-a", "linux-base-a"]


def test_only_the_distributions_entries_are_taken() -> None:
    archives = distribution_archives(parse_index_targets(INDEX_TARGETS), "bookworm")
    assert [archive.release for archive in archives] == ["bookworm", "bookworm-updates", "bookworm-security"]
    assert archives[0].entry == Path("/etc/apt/sources.list.d/debian.sources")


def test_rolling_names_count_when_the_codename_is_not_configured() -> None:
    archives = parse_index_targets("Packages\tdeb\thttp://a.example/\tunstable\tmain\t/s.list:1\n")
    assert distribution_archives(archives, "forky") == archives
    assert distribution_archives(archives[:0], "forky") == []


def test_a_name_that_others_only_mention_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources/bed.sources").touch()
    for answer, found in ((b"\n", None), (META.encode(), parse_package(META))):
        monkeypatch.setattr(apt, "run_tool", lambda *_, answer=answer, **__: answer)
        assert AptState(folder=tmp_path).show("linux-image-amd64") == found


def test_dependencies_are_followed_as_far_as_they_are_wanted() -> None:
    packages = {
        "q": package("q", "liba", "debconf", "libvirtual"),
        "liba": package("liba", "libb", "liba"),
        "libb": package("libb"),
        "debconf": package("debconf"),
    }
    assert [each.name for each in apt.follow(packages.get, ["q"], re.compile("lib"))] == ["q", "liba", "libb"]


PRINTED_URIS = """\
Reading package lists...
The following NEW packages will be installed:
  libc6 qemu-system-x86
'http://a.example/debian/pool/main/g/glibc/libc6_2.31-13+deb11u11_amd64.deb' libc6_2.31-13+deb11u11_amd64.deb 2822708 MD5Sum:1
'http://a.example/debian/pool/q/q_5.2%2bdfsg-11_amd64.deb' qemu-system-x86_1%3a5.2+dfsg-11+deb11u3_amd64.deb 8288680 MD5Sum:2
"""  # noqa: E501 (as apt prints them)


def test_what_apt_would_install_is_read_with_its_versions() -> None:
    assert [(each.name, each.version, each.size) for each in parse_uris(PRINTED_URIS)] == [
        ("libc6", "2.31-13+deb11u11", 2822708),
        ("qemu-system-x86", "1:5.2+dfsg-11+deb11u3", 8288680),
    ]


def test_nothing_to_download_is_no_request_to_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """apt-get download without a name ends with "Handler silently failed"."""
    monkeypatch.setattr(apt, "run_tool", lambda *_, **__: pytest.fail("apt was asked"))
    assert AptState(folder=tmp_path).download([]) == []


@pytest.mark.parametrize(
    ("said", "help_"),
    [
        ("W: GPG error: InRelease: the public key is not available: NO_PUBKEY 6ED0E7B82643E131", "archive-keyring"),
        ("Err:1 Temporary failure resolving 'deb.example'", "network"),
        ("E: Failed to fetch x.deb  404  Not Found [IP: 1.2.3.4 80]", "is changing or incomplete"),
        ("E: You don't have enough free space in /x. No space left on device", "free space where the cache"),
        ("The following packages have unmet dependencies:\n q : Depends: libc6 (>= 2.38)", "name another"),
        ("E: Release file for the archive is expired (invalid since 24d 14h). Updates", "Check-Valid-Until"),
        ("E: something never heard of", "apt-get update"),
    ],
)
def test_a_failure_of_apt_comes_with_what_helps(said: str, help_: str) -> None:
    assert help_ in what_to_do(said)


def test_a_failure_of_apt_is_told_in_its_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What cannot be installed is said on its stdout, of which the last words are quoted too."""
    program = tmp_path / "apt-get"
    program.write_text(
        "#!/bin/sh\necho ' q : Depends: libc6 (>= 2.38)'; echo 'E: held broken packages' >&2; exit 100\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "sources").mkdir()
    (tmp_path / "archives").mkdir()
    (tmp_path / "sources/bed.sources").touch()
    with pytest.raises(BedError, match=r"Depends: libc6 \(>= 2.38\)\nE: held broken packages") as caught:
        AptState(folder=tmp_path).resolve(["q"])
    assert "name another" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("suite", "base"),
    [
        ("bullseye", "bullseye"),
        ("sid", "sid"),
        ("trixie-backports", "trixie"),
        ("bookworm-backports-sloppy", "bookworm"),
        ("noble-updates", "noble"),
    ],
)
def test_a_suite_that_is_an_addition_builds_on_its_release(suite: str, base: str) -> None:
    assert apt_sources.base_suite(suite) == base


SOURCES = """\
# Enabled by the installer
Types: deb deb-src
URIs: http://a.example/debian
# a remark within
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 xyz
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://s.example/sec/
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
Check-Valid-Until: no
"""


def test_trust_is_taken_over_from_deb822(tmp_path: Path) -> None:
    entry = tmp_path / "debian.sources"
    entry.write_text(SOURCES)
    main = Archive(address="http://a.example/debian/", release="bookworm-updates", entry=entry)
    inline = trust_of(main)["signed-by"]
    assert inline.startswith("\n -----BEGIN")
    assert inline.endswith("\n -----END PGP PUBLIC KEY BLOCK-----")
    security = Archive(address="http://s.example/sec/", release="bookworm-security", entry=entry)
    assert trust_of(security) == {
        "signed-by": " /usr/share/keyrings/debian-archive-keyring.gpg",
        "check-valid-until": " no",
    }
    assert trust_of(Archive(address="http://x.example/", release="bookworm", entry=entry)) == {}


def test_trust_is_taken_over_from_one_line_entries(tmp_path: Path) -> None:
    entry = tmp_path / "sources.list"
    entry.write_text(
        "# deb [trusted=yes] http://a.example/debian bookworm main\n"
        "deb http://b.example/debian bookworm main\n"
        "deb [ arch=amd64 signed-by=/k/one.gpg,/k/two.gpg ] http://a.example/debian/ bookworm main contrib\n"
    )
    archive = Archive(address="http://a.example/debian/", release="bookworm", entry=entry)
    assert trust_of(archive) == {"signed-by": " /k/one.gpg /k/two.gpg"}
    assert trust_of(Archive(address="http://b.example/debian/", release="bookworm", entry=entry)) == {}
    assert trust_of(Archive(address="http://b.example/", release="x", entry=tmp_path / "gone.list")) == {}


def test_stanza_asks_for_package_lists_only() -> None:
    archive = Archive(address="http://a.example/debian/", release="bookworm", entry=Path("x"))
    assert stanza(archive, "bookworm-backports", {"signed-by": " /k.gpg"}).splitlines() == [
        "Types: deb",
        "URIs: http://a.example/debian/",
        "Suites: bookworm-backports",
        "Components: main",
        "Targets: Packages",
        "Signed-By: /k.gpg",
    ]


def test_another_suite_comes_from_the_main_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_sources, "running_codename", lambda: "bookworm")
    monkeypatch.setattr(apt_sources, "configured_archives", lambda: parse_index_targets(INDEX_TARGETS)[::-1])
    (only,) = apt_sources.stanzas_for("{codename}-backports")
    assert "URIs: http://a.example/debian/\nSuites: bookworm-backports\n" in only
    assert len(apt_sources.stanzas_for(None)) == 3


def test_no_source_of_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_sources, "configured_archives", list)
    with pytest.raises(InputError, match="no apt source for"):
        apt_sources.stanzas_for(None)


def test_host_without_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(apt, "find_program", lambda _: None)
    with pytest.raises(InputError, match="linux-image-amd64: this host has no apt"):
        AptKernel(package="linux-image-amd64", suite=None).fetch(tmp_path, print, [])


def test_unknown_package_names_the_suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(apt, "find_program", lambda _: "/usr/bin/apt-get")
    monkeypatch.setattr("testbed.image.apt.stanzas_for", lambda _: [])
    monkeypatch.setattr(AptState, "update", lambda *_: "")
    monkeypatch.setattr(AptState, "show", lambda *_: None)
    with pytest.raises(InputError, match="package linux-nosuch: not found in suite sid "):
        AptKernel(package="linux-nosuch", suite="sid").fetch(tmp_path, lambda _: None, [])


def run_failing_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str) -> None:
    def run(argv: list[str], **_: object) -> bytes:
        if argv[0] == "apt-config":
            return b'Acquire::http::Proxy "x";\nAPT::Update::Post-Invoke:: "y";\n'
        raise BedError(words)

    monkeypatch.setattr(apt, "run_tool", run)
    AptState(folder=tmp_path / "apt").update(["URIs: http://a.example/debian\n"], "nosuch")


def test_unknown_suite_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no suite nosuch"):
        run_failing_apt(monkeypatch, tmp_path, "E: The repository 'http://a.example' does not have a Release file.")


def test_unreachable_archive_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BedError, match="Could not connect") as caught:
        run_failing_apt(monkeypatch, tmp_path, "E: http://a.example/x Could not connect to a.example:80")
    assert not isinstance(caught.value, InputError)
    assert "a.example" not in caught.value.message
    configuration = (tmp_path / "apt" / "apt.conf").read_text()
    assert "Proxy" in configuration, "how the host fetches is taken over"
    assert "Post-Invoke" not in configuration, "its hooks are not"
