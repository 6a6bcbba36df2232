"""The fetched QEMUs, and by which names QEMUs are found on a host."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

import pytest

from testbed.host import apt_sources
from testbed.host.qemu_catalog import ANY, default_path, known_qemus, locate
from testbed.host.qemu_prefix import PROGRAM, Prefix
from testbed.host.qemu_store import draft, fetched_qemus, find_fetched, keep, locked, remove_fetched
from testbed.model.errors import InputError, LackingError

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.host.qemu_store import FetchedQemu


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("TESTBED_QEMU", "TESTBED_QEMU_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(apt_sources, "running_codename", lambda: "bookworm")
    return tmp_path / "cache" / "qemu"


def program(folder: Path) -> Path:
    folder.mkdir(parents=True)
    path = folder / PROGRAM
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def fetched(name: str, version: str = "1:10.0") -> FetchedQemu:
    with locked(on_wait=pytest.fail), draft() as scratch:
        program(scratch / "prefix/usr/bin")
        return keep(Prefix(root=scratch / "prefix"), name, {"qemu-system-x86": version})


def test_what_was_kept_is_found(cache: Path) -> None:
    assert fetched_qemus() == {}
    assert not cache.exists(), "looking makes nothing"
    kept = fetched("trixie")
    assert fetched_qemus() == {"trixie": kept}
    assert kept.prefix.binary == cache / "trixie/usr/bin" / PROGRAM
    assert kept.prefix.binary.is_file()


def test_a_codename_is_filled_in() -> None:
    kept = fetched("bookworm-backports")
    assert find_fetched("{codename}-backports") == kept
    assert locate("{codename}-backports") == kept.prefix.binary


def test_another_version_takes_its_place_and_leaves_nothing(cache: Path) -> None:
    fetched("trixie", "1:9.2")
    fetched("trixie", "1:10.0")
    assert fetched_qemus()["trixie"].packages == {"qemu-system-x86": "1:10.0"}
    assert sorted(path.name for path in cache.iterdir()) == ["lock", "trixie"]


def test_a_removed_one_is_gone(cache: Path) -> None:
    fetched("trixie")
    remove_fetched("trixie")
    remove_fetched("trixie")
    assert [path.name for path in cache.iterdir()] == ["lock"]


@pytest.mark.parametrize("damage", ["binary", "record", "renamed"])
def test_a_damaged_one_is_none(cache: Path, damage: str) -> None:
    kept = fetched("trixie")
    if damage == "binary":
        kept.prefix.binary.unlink()
    elif damage == "record":
        (cache / "trixie/qemu.json").write_text("[")
    else:
        (cache / "trixie").rename(cache / "sid")
    assert fetched_qemus() == {}


def test_what_a_killed_fetch_left_goes_with_the_next(cache: Path) -> None:
    (cache / "tmp-dead/prefix").mkdir(parents=True)
    fetched("trixie")
    assert not (cache / "tmp-dead").exists()


def test_a_second_fetch_says_that_it_waits(cache: Path) -> None:
    cache.mkdir(parents=True)
    with (cache / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        told: list[str] = []

        def hear() -> None:
            told.append("waiting")
            fcntl.flock(other, fcntl.LOCK_UN)

        with locked(on_wait=hear):
            assert told == ["waiting"]


def test_the_default_comes_first_and_each_binary_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path, built = program(tmp_path / "bin"), program(tmp_path / "build")
    (tmp_path / "alias").symlink_to(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{tmp_path}/alias:{tmp_path}/none")
    monkeypatch.setenv("TESTBED_QEMU_PATH", f"{tmp_path}/build:{on_path}")
    kept = fetched("trixie")
    wanted = {str(on_path): on_path, "trixie": kept.prefix.binary, str(built): built}
    assert list(known_qemus().items()) == list(wanted.items())
    monkeypatch.setenv("TESTBED_QEMU", "trixie")
    assert default_path() == locate("") == kept.prefix.binary
    assert list(known_qemus()) == ["trixie", str(on_path), str(built)]


def test_any_is_the_default_or_else_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such program"):
        locate(ANY)
    kept = fetched("trixie")
    assert locate(ANY) == kept.prefix.binary
    on_path = program(tmp_path / "bin")
    assert locate(ANY) == on_path


def test_a_name_that_is_not_there_comes_with_what_is_and_how_to_fetch_it() -> None:
    fetched("trixie")
    with pytest.raises(
        LackingError, match=r"QEMU '{codename}-backports': no such program, .* there are: trixie"
    ) as caught:
        locate("{codename}-backports")
    assert caught.value.remedy == "testbed qemu fetch bookworm-backports"
    with pytest.raises(LackingError) as caught:
        locate("/opt/none/qemu-system-x86_64")
    assert "fetch" not in caught.value.remedy


def test_a_host_without_any_is_told_how_to_get_one() -> None:
    with pytest.raises(InputError, match=f"QEMU '{PROGRAM}': no such program") as caught:
        locate("")
    assert not isinstance(caught.value, LackingError), "nothing can run: that is no skip"
    assert "testbed qemu fetch" in (caught.value.hint or "")


def test_a_folder_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_QEMU_PATH", "/nowhere/build")
    with pytest.raises(InputError, match="TESTBED_QEMU_PATH: /nowhere/build: no such file or folder"):
        known_qemus()
