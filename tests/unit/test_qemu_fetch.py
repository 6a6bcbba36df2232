"""Fetching a QEMU where apt is played: which suites are asked, which packages are taken, when nothing is."""

from __future__ import annotations

from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.host import qemu_fetch
from testbed.host.apt import AptState, Package
from testbed.host.qemu_fetch import fetch_qemu
from testbed.host.qemu_prefix import PROGRAM, Prefix
from testbed.host.qemu_store import fetched_qemus
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BACKPORTS, RELEASE = "bookworm-backports", "bookworm"
DEPENDS = ("libc6", "libslirp0", "qemu-system-common", "seabios")
PARTS = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios")


class Archive:
    """Suites and their packages (name -> version), in place of apt's."""

    def __init__(self) -> None:
        self.suites: dict[str, dict[str, str]] = {
            RELEASE: dict.fromkeys((*PARTS, "ipxe-qemu", "ovmf", "libc6", "libslirp0"), "1:7.2+dfsg-7"),
            BACKPORTS: dict.fromkeys((*PARTS, "qemu-system-gui"), "1:10.0.2+ds-2~bpo12+1"),
        }
        self.downloaded: list[str] = []
        #: versions of the QEMUs that were downloaded
        self.asked: list[str] = []
        #: what the binary of a prefix lacks, until it has a libc of its own
        self.missing: tuple[str, ...] = ()

    def update(self, state: AptState, stanzas: Sequence[str], suite: str) -> str:
        state.folder.mkdir()
        if any(wanted not in self.suites for wanted in stanzas):
            raise InputError(f"the configured archive has no suite {suite}")
        (state.folder / "suites").write_text("\n".join(stanzas))
        return ""

    def show(self, state: AptState, name: str) -> Package | None:
        """Return the package of the first of the state's suites that has it: its backports go before the release."""
        suites = (state.folder / "suites").read_text().splitlines()
        version = next((self.suites[suite][name] for suite in suites if name in self.suites[suite]), None)
        return Package(name=name, version=version, size=1_000_000, depends=()) if version else None

    def resolve(self, state: AptState, names: Sequence[str]) -> list[Package]:
        assert len((state.folder / "suites").read_text().splitlines()) == 1 or state.prefer
        return [package for name in dict.fromkeys((*names, *DEPENDS)) if (package := self.show(state, name))]

    def download(self, state: AptState, names: Sequence[str]) -> list[Path]:
        self.downloaded += names
        if qemu := self.show(state, "qemu-system-x86"):
            self.asked.append(qemu.version)
        for name in names:
            (state.folder / f"{name}.deb").touch()
        return sorted(state.folder.glob("*.deb"))

    def unpack(self, argv: Sequence[str | Path], **_: object) -> bytes:
        root = Path(argv[3])
        (root / "usr/bin").mkdir(parents=True, exist_ok=True)
        (root / "usr/bin" / PROGRAM).touch()
        return b""

    def lacks(self, _: Prefix) -> tuple[str, ...]:
        return () if "libc6" in self.downloaded else self.missing


def _called(this: object, method: Callable[..., object], *arguments: object) -> object:
    return method(this, *arguments)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    played = Archive()
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path))
    monkeypatch.setattr(qemu_fetch, "check_apt", lambda *_, **__: None)
    monkeypatch.setattr(qemu_fetch, "running_codename", lambda: RELEASE)
    monkeypatch.setattr(qemu_fetch, "stanzas_for", lambda suite: [suite or RELEASE])
    for kind, name, method in (
        (AptState, "update", played.update),
        (AptState, "show", played.show),
        (AptState, "resolve", played.resolve),
        (AptState, "download", played.download),
        (Prefix, "missing_libraries", played.lacks),
    ):
        monkeypatch.setattr(kind, name, partialmethod(_called, method))
    monkeypatch.setattr(qemu_fetch, "run_tool", played.unpack)
    monkeypatch.setattr(qemu_fetch, "probe", lambda _: None)
    return played


def quiet(_: str) -> None:
    pass


def test_by_default_it_is_the_backports_with_the_release_for_what_they_lack(archive: Archive) -> None:
    fetched = fetch_qemu("", progress=quiet)
    assert (fetched.name, list(fetched_qemus())) == (BACKPORTS, [BACKPORTS])
    assert fetched.packages["qemu-system-x86"].startswith("1:10.0.2")
    assert fetched.packages["ipxe-qemu"].startswith("1:7.2")
    assert sorted(archive.downloaded) == sorted([*PARTS, "ipxe-qemu", "ovmf", "qemu-system-gui"])


@pytest.mark.parametrize("backports", [None, {"linux-image-amd64": "6.12"}])
def test_without_backports_it_is_the_release_s_own(archive: Archive, backports: dict[str, str] | None) -> None:
    del archive.suites[BACKPORTS]
    if backports:
        archive.suites[BACKPORTS] = backports
    assert fetch_qemu("", progress=quiet).name == RELEASE


def test_the_backports_of_another_release_are_resolved_with_that_release_alone(archive: Archive) -> None:
    archive.suites["trixie"] = dict.fromkeys((*PARTS, "ipxe-qemu", "libc6", "libslirp0"), "of trixie")
    archive.suites["trixie-backports"] = dict.fromkeys(PARTS, "1:11.1.3+ds-1~bpo13+1")
    archive.missing = ("libc.so.6 with GLIBC_2.38",)
    fetched = fetch_qemu("trixie-backports", progress=quiet)
    assert {name: fetched.packages[name] for name in ("qemu-system-x86", "libc6", "ipxe-qemu")} == {
        "qemu-system-x86": "1:11.1.3+ds-1~bpo13+1",
        "libc6": "of trixie",
        "ipxe-qemu": "of trixie",
    }
    assert not {version for version in fetched.packages.values() if "7.2" in version}, "something is this release's"


def test_a_suite_asked_for_is_not_replaced_by_another(archive: Archive) -> None:
    archive.suites["bookworm-updates"] = {"tzdata": "1"}
    with pytest.raises(InputError, match="bookworm-updates: that suite of the configured archive has no package"):
        fetch_qemu("bookworm-updates", progress=quiet)
    with pytest.raises(InputError, match="no suite nosuch"):
        fetch_qemu("nosuch", progress=quiet)
    assert fetched_qemus() == {}
    assert archive.downloaded == []


def test_modules_of_another_build_are_not_taken(archive: Archive) -> None:
    archive.suites[RELEASE]["qemu-block-extra"] = "1:7.2+dfsg-7"
    assert "qemu-block-extra" not in fetch_qemu(BACKPORTS, progress=quiet).packages


def test_what_is_there_is_fetched_again_only_if_it_is_another_version(archive: Archive) -> None:
    first = fetch_qemu(BACKPORTS, progress=quiet)
    archive.downloaded.clear()
    said: list[str] = []
    assert fetch_qemu(BACKPORTS, progress=said.append) == first
    assert archive.downloaded == []
    assert said[-1] == f"{BACKPORTS} has nothing newer than QEMU 10.0.2, which this host already has"
    archive.suites[BACKPORTS]["qemu-system-x86"] = "1:10.0.7+ds-1~bpo12+1"
    assert fetch_qemu(BACKPORTS, progress=quiet).packages["qemu-system-x86"].startswith("1:10.0.7")


def test_what_no_longer_runs_is_fetched_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetch_qemu(BACKPORTS, progress=quiet)
    archive.downloaded.clear()

    def probed(path: Path) -> None:
        if path.is_relative_to(tmp_path / "qemu" / BACKPORTS):
            raise InputError("libslirp.so.0: cannot open")

    monkeypatch.setattr(qemu_fetch, "probe", probed)
    fetch_qemu(BACKPORTS, progress=quiet)
    assert "qemu-system-x86" in archive.downloaded


def test_missing_libraries_are_named_with_their_packages_and_come_along(archive: Archive) -> None:
    archive.missing = ("libslirp.so.0", "libc.so.6 with GLIBC_2.38")
    said: list[str] = []
    fetched = fetch_qemu(BACKPORTS, progress=said.append)
    named = "libslirp.so.0 (package libslirp0), libc.so.6 with GLIBC_2.38 (package libc6)"
    assert f"this host lacks {named}" in said
    assert {"libslirp0", "libc6"} <= set(fetched.packages)


def test_a_library_that_cannot_be_had_is_an_error_that_names_it(archive: Archive) -> None:
    del archive.suites[RELEASE]["libc6"]
    archive.missing = ("libslirp.so.0",)
    with pytest.raises(BedError, match=r"cannot run here: it lacks libslirp\.so\.0 \(package libslirp0\)"):
        fetch_qemu(BACKPORTS, progress=quiet)
    assert fetched_qemus() == {}


@pytest.mark.parametrize("name", ["a/b", "../x", "Trixie", "-t", "x;y", "x y", "tmp_1"])
def test_what_is_no_suite_is_refused(archive: Archive, name: str) -> None:
    with pytest.raises(InputError, match="not the name of a suite"):
        fetch_qemu(name, progress=quiet)


def test_a_host_without_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.host.apt.find_program", lambda _: None)
    with pytest.raises(InputError, match="fetching a QEMU: this host has no apt") as caught:
        fetch_qemu("", progress=quiet)
    assert "--qemu" in (caught.value.hint or "")
