"""A QEMU's answers are kept as long as its files are as they were, and never believed when they are damaged."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from testbed.host.qemu_answers import remembered
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Asked:
    """Answers with how often it was asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> list[int]:
        self.times += 1
        return [self.times]


@pytest.fixture
def binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "usr/bin/qemu"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x7fELF and the rest")
    return path


def kept_files(binary: Path) -> list[Path]:
    return list((binary.parents[2] / "cache/qemu-answers").iterdir())


def test_it_is_asked_once_a_question(binary: Path) -> None:
    ask = Asked()
    assert [remembered(binary, "a", ask) for _ in range(3)] == [[1]] * 3
    assert remembered(binary, "b", ask) == [2]
    assert remembered(binary, "a", ask) == [1]
    assert len(kept_files(binary)) == 1


def rewrite(binary: Path) -> None:
    binary.write_bytes(b"\x7fELF and another rest")


def add_module(binary: Path) -> None:
    folder = binary.parent.parent / "lib/x86_64-linux-gnu/qemu"
    folder.mkdir(parents=True)
    (folder / "hw-display-qxl.so").touch()


def damage(binary: Path) -> None:
    (file,) = kept_files(binary)
    file.write_text(file.read_text().replace("[1]", "[7]"))


def age(binary: Path) -> None:
    (file,) = kept_files(binary)
    os.utime(file, (0, 0))


def set_clock_back(binary: Path) -> None:
    (file,) = kept_files(binary)
    to_come = file.stat().st_mtime + 86400
    os.utime(file, (to_come, to_come))


@pytest.mark.parametrize("change", [rewrite, add_module, damage, age, set_clock_back])
def test_it_is_asked_again_when_something_has_changed(binary: Path, change: Callable[[Path], None]) -> None:
    ask = Asked()
    assert remembered(binary, "a", ask) == [1]
    change(binary)
    assert remembered(binary, "a", ask) == [2]
    assert remembered(binary, "a", ask) == [2]


def test_a_version_that_keeps_something_else_asks_again(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Asked()
    assert remembered(binary, "a", ask) == [1]
    monkeypatch.setattr("testbed.host.qemu_answers._FORMAT", 2)
    assert remembered(binary, "a", ask) == [2]


def test_a_script_is_asked_each_time(binary: Path) -> None:
    binary.write_text("#!/bin/sh\n")
    ask = Asked()
    assert [remembered(binary, "a", ask), remembered(binary, "a", ask)] == [[1], [2]]


def test_an_error_is_not_kept(binary: Path) -> None:
    def fail() -> None:
        raise InputError("no greeting")

    with pytest.raises(InputError):
        remembered(binary, "a", fail)
    assert remembered(binary, "a", Asked()) == [1]


def test_without_a_cache_it_is_asked_each_time(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (binary.parent / "file").touch()
    monkeypatch.setenv("TESTBED_CACHE", str(binary.parent / "file"))
    ask = Asked()
    assert [remembered(binary, "a", ask), remembered(binary, "a", ask)] == [[1], [2]]
