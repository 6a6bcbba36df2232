"""Which OVMF is taken: by the distributions' descriptions, by known paths, or of a fetched QEMU."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from testbed.host import firmware
from testbed.host.firmware import find_ovmf
from testbed.model.errors import LackingError

CODE, VARIABLES = "/usr/share/OVMF/CODE.fd", "/usr/share/OVMF/VARS.fd"


def descriptor(**changed: Any) -> dict[str, Any]:
    """Return a description as QEMU's docs/interop/firmware.json has it."""
    code, variables = changed.pop("code", CODE), changed.pop("variables", VARIABLES)
    kind = changed.pop("format", "raw")
    return {
        "description": "UEFI",
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            "executable": {"filename": code, "format": kind},
            "nvram-template": {"filename": variables, "format": kind},
        },
        "targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}],
        "features": ["acpi-s3"],
        **changed,
    }


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of a fetched QEMU; the host itself has no firmware."""
    monkeypatch.setattr(firmware, "OVMF", (("/usr/share/OVMF/known-code", "/usr/share/OVMF/known-variables"),))
    monkeypatch.setattr(firmware, "_DESCRIPTORS", Path("/usr/share/firmware-of-the-test"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    fetched = SimpleNamespace(prefix=SimpleNamespace(root=tmp_path / "prefix"))
    monkeypatch.setattr(firmware, "fetched_qemus", lambda: {"a-suite": fetched})
    return tmp_path / "prefix"


def install(root: Path, *paths: str) -> None:
    for path in paths:
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)


def describe(root: Path, name: str, text: str | dict[str, Any]) -> None:
    file = root / "usr/share/firmware-of-the-test" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text if isinstance(text, str) else json.dumps(text))


def test_without_any_the_mend_is_told(root: Path) -> None:
    with pytest.raises(LackingError, match="no OVMF without Secure Boot for q35") as caught:
        find_ovmf("q35")
    assert "testbed qemu fetch" in caught.value.remedy
    assert caught.value.lacking == "ovmf"


@pytest.mark.parametrize("machine_type", ["q35", "pc", "pc-q35-7.2", "pc-i440fx-6.0"])
def test_a_described_firmware_is_found_below_the_root_of_a_fetched_qemu(root: Path, machine_type: str) -> None:
    install(root, CODE, VARIABLES)
    describe(root, "60-ovmf.json", descriptor(format="qcow2"))
    found = find_ovmf(machine_type)
    assert (found.code, found.variables) == (root / CODE[1:], root / VARIABLES[1:])
    assert found.format == "qcow2"


@pytest.mark.parametrize(
    "unfit",
    [
        {"features": ["acpi-s3", "secure-boot"]},
        {"features": ["requires-smm"]},
        {"interface-types": ["bios"]},
        {"targets": [{"architecture": "aarch64", "machines": ["virt-*"]}]},
        {"targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*"]}]},
        {"mapping": {"device": "memory", "filename": CODE}},
        {"code": "/usr/share/OVMF/removed"},
    ],
)
def test_what_does_not_fit_is_left_for_the_next(root: Path, unfit: dict[str, Any]) -> None:
    install(root, CODE, VARIABLES, "/usr/share/OVMF/other")
    describe(root, "10-unfit.json", descriptor(**unfit))
    with pytest.raises(LackingError):
        find_ovmf("q35")
    describe(root, "20-fit.json", descriptor(code="/usr/share/OVMF/other"))
    assert find_ovmf("q35").code.name == "other"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"mapping": 1}', json.dumps(descriptor(features=None))])
def test_a_description_that_is_none_is_left_out(root: Path, text: str) -> None:
    install(root, CODE, VARIABLES)
    describe(root, "10-broken.json", text)
    describe(root, "60-ovmf.json", descriptor())
    assert find_ovmf("q35").code == root / CODE[1:]


def test_without_descriptions_known_paths_are_taken(root: Path) -> None:
    install(root, "/usr/share/OVMF/known-code", "/usr/share/OVMF/known-variables")
    assert find_ovmf("q35").code.name == "known-code"


def test_the_content_of_both_images_is_part_of_what_a_saved_state_depends_on(root: Path) -> None:
    install(root, CODE, VARIABLES)
    describe(root, "60-ovmf.json", descriptor())
    found = find_ovmf("q35")
    before = found.hashes
    found.variables.write_text("other variables")
    assert found.hashes[0] == before[0]
    assert found.hashes[1] != before[1]
