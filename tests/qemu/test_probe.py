"""What is known of a QEMU binary is what it says itself, and what is no usable QEMU is told apart."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from testbed.host import packages, qemu_catalog
from testbed.host import qemu as qemu_module
from testbed.host.qemu import Qemu, find_qemu
from testbed.host.qemu_prefix import PROGRAM
from testbed.model.errors import InputError, LackingError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def written(text: str) -> str:
        path = tmp_path / "qemu-script"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return written


def test_the_qemu_on_path_is_found_and_asked(qemu: Qemu) -> None:
    assert qemu.path.name == PROGRAM
    assert qemu.path.is_absolute()
    assert re.match(r"\d+\.\d+\.\d+", qemu.version)
    assert {"q35", "pc", "pc-q35-6.0"} <= set(qemu.machine_types)
    assert {"pcie-root-port", "virtio-blk-pci", "e1000"} <= qemu.drivers


def test_its_features_are_what_it_says(qemu: Qemu) -> None:
    assert "tcg" in qemu.accelerators
    assert "accel" not in qemu.accelerators
    assert {"events", "multifd"} <= qemu.capabilities
    assert {"pcie-root-port", "virtio-blk-pci"} <= qemu.pci_drivers < qemu.drivers
    assert qemu.command == (str(qemu.path),)


def test_what_templates_have_is_asked_for_all_at_once(
    qemu: Qemu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path))
    starts: list[Path] = []
    really = qemu_module._run

    def run(path: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        starts.append(path)
        return really(path, *arguments, stdin=stdin)

    monkeypatch.setattr(qemu_module, "_run", run)
    qemu_module._properties.cache_clear()
    for driver in ("virtio-blk-pci", "e1000", "pcie-root-port", "ICH9-LPC"):
        assert qemu.properties(driver)
    assert len(starts) == 1

    # and once for all processes
    qemu_module._properties.cache_clear()
    assert qemu.properties("e1000")
    assert len(starts) == 1


def test_abstract_types_are_no_devices(qemu: Qemu) -> None:
    assert "pci-device" not in qemu.drivers


def test_a_qemu_is_found_by_name_path_and_environment(qemu: Qemu, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_qemu(PROGRAM) == qemu
    assert find_qemu(str(qemu.path)) == qemu
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("TESTBED_QEMU", str(qemu.path))
    assert find_qemu() == qemu


def test_what_exists_is_taken(qemu: Qemu) -> None:
    qemu.check_machine_type("q35")
    qemu.check_machine_type("pc-q35-6.0")
    qemu.check_driver("pcie-root-port")


def test_an_unknown_machine_type_is_answered_with_the_closest(qemu: Qemu) -> None:
    with pytest.raises(InputError, match=r"machine type 'pc-q35-7\.22' does not exist") as caught:
        qemu.check_machine_type("pc-q35-7.22")
    assert "did you mean pc-q35-7.2?" in (caught.value.hint or "")


def test_an_unknown_device_is_answered_with_the_closest(qemu: Qemu) -> None:
    with pytest.raises(InputError, match="device 'virtio-blk-pcie' does not exist") as caught:
        qemu.check_driver("virtio-blk-pcie")
    assert "did you mean virtio-blk-pci?" in (caught.value.hint or "")
    assert f"{qemu.path} -device help" in (caught.value.hint or "")


def test_an_unknown_property_is_answered_with_the_closest(qemu: Qemu) -> None:
    with pytest.raises(InputError, match="device pcie-root-port: property 'chasis' does not exist") as caught:
        qemu.typed("pcie-root-port", "chasis", 1)
    assert "did you mean chassis?" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("driver", "name", "value", "wanted"),
    [
        ("pcie-root-port", "power_controller_present", False, False),
        ("pcie-root-port", "power_controller_present", "off", False),
        ("pcie-root-port", "hotplug", True, True),
        ("pcie-root-port", "chassis", "7", 7),
        ("pcie-root-port", "x-speed", "16", "16"),  # an enumeration: QEMU wants its name
        ("virtio-blk-pci", "disable-legacy", False, "off"),  # OnOffAuto
        ("virtio-blk-pci", "disable-legacy", "auto", "auto"),
        ("virtio-blk-pci", "disable-legacy", "true", "on"),
        ("virtio-blk-pci", "logical_block_size", "4K", 4096),
        ("virtio-blk-pci", "logical_block_size", "big", "big"),
        ("virtio-blk-pci", "serial", 10, "10"),
        ("virtio-blk-pci", "serial", "on", "on"),
        ("virtio-blk-pci", "bootindex", "0x2", 2),
    ],
)
def test_a_value_gets_the_type_this_qemu_wants(qemu: Qemu, driver: str, name: str, value: Any, wanted: Any) -> None:
    got = qemu.typed(driver, name, value)
    assert got == wanted
    assert type(got) is type(wanted)


@pytest.mark.parametrize("name", ["no-such-qemu", "/nowhere/qemu-system-x86_64", "/tmp", "/etc/passwd"])
def test_a_program_that_is_not_there_is_named_with_how_to_get_it(name: str) -> None:
    with pytest.raises(InputError, match=f"QEMU '{name}': no such program") as caught:
        find_qemu(name)
    assert "--qemu" in (caught.value.hint or "")


@pytest.mark.parametrize("program", ["/bin/true", "/bin/false", "/bin/cat", "/bin/echo"])
def test_a_program_that_is_no_qemu_is_refused(program: str) -> None:
    with pytest.raises(InputError, match=f"QEMU {program}: cannot be probed"):
        find_qemu(program)


@pytest.mark.parametrize(
    "text",
    [
        "cat",  # says what it is told
        "echo '{broken'; cat >/dev/null",
        "echo '{}'; cat >/dev/null",
        "printf '\\377\\376{}\\n'; cat >/dev/null",
        "echo '{\"QMP\": {}}'; cat >/dev/null",
        "cat >/dev/null; echo 'cannot open display' >&2; exit 3",
        "kill -9 $$",
    ],
)
def test_whatever_a_program_answers_it_is_an_input_error(script: Callable[[str], str], text: str) -> None:
    path = script(text)
    with pytest.raises(InputError, match=f"QEMU {path}: cannot be probed"):
        find_qemu(path)


def test_its_own_last_words_are_in_the_error(script: Callable[[str], str]) -> None:
    with pytest.raises(InputError, match="libfoo is missing"):
        find_qemu(script("cat >/dev/null; echo 'libfoo is missing' >&2; exit 127"))


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "qemu"
    path.write_text("words, and no interpreter")
    path.chmod(0o755)
    with pytest.raises(InputError, match=f"QEMU {path}: cannot be started"):
        find_qemu(str(path))


@pytest.mark.parametrize("has", [True, False])
def test_whether_devices_are_given_as_json_is_asked(qemu: Qemu, script: Callable[[str], str], has: bool) -> None:
    """Before 6.2 device_add does not say so."""
    said = find_qemu(script(f'exec {qemu.path} "$@"' if has else f'{qemu.path} "$@" | sed s/json-cli/none/g'))
    assert said.json_devices is has
    assert said.version == qemu.version


def test_the_only_qemu_of_rhel_is_found(qemu: Qemu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "libexec/qemu-kvm"
    path.parent.mkdir()
    path.symlink_to(qemu.path)
    monkeypatch.setattr(qemu_catalog, "RHEL_QEMU", path)
    monkeypatch.setattr(packages, "RHEL_QEMU", path)
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path))
    monkeypatch.delenv("TESTBED_QEMU", raising=False)
    monkeypatch.setattr(packages, "search_path", lambda: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert qemu_catalog.locate("") == path
    assert PROGRAM not in [need.name for need in packages.missing()]
    path.unlink()
    assert PROGRAM in [need.name for need in packages.missing()]


def test_a_qemu_with_few_devices_names_what_it_lacks(qemu: Qemu) -> None:
    """As RHEL's qemu-kvm is: no i440fx machine, no igb, no nvme."""
    few = replace(qemu, machine_types=("q35", "pc-q35-rhel9.4.0"), drivers=frozenset({"virtio-blk-pci"}))
    with pytest.raises(LackingError) as caught:
        few.check_machine_type("pc-i440fx-7.2")
    assert caught.value.lacking == "pc-i440fx-7.2"
    with pytest.raises(LackingError) as caught:
        few.check_driver("igb")
    assert caught.value.lacking == "igb"


@pytest.mark.parametrize("has", [True, False])
def test_seccomp_is_known_by_trying_it(qemu: Qemu, script: Callable[[str], str], has: bool) -> None:
    if not qemu.sandbox:
        pytest.skip(f"{qemu.path} is built without seccomp")
    refusal = "" if has else "case \"$*\" in *-sandbox*) echo 'no seccomp' >&2; exit 1;; esac\n"
    assert find_qemu(script(f'{refusal}exec {qemu.path} "$@"')).sandbox is has
