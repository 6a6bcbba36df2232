"""UEFI firmware: the OVMF of a host, or of a QEMU that was fetched.

Distributions describe their firmware in JSON files (QEMU's docs/interop/firmware.json), of which one in a later folder
stands for that of the same name in an earlier one; the first by name that fits is taken. A build with secure boot is
never taken: it needs SMM, and a kernel that it starts may be locked down, accesses to registers and memory included.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.host.packages import FIRMWARE_NEEDS, OVMF, install_line
from testbed.host.qemu_store import fetched_qemus
from testbed.model.errors import LackingError
from testbed.model.json_reader import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator

_DESCRIPTORS = Path("/usr/share/qemu/firmware")
#: features of a build that will not do
_UNFIT = frozenset({"requires-smm", "secure-boot", "enrolled-keys"})


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """A UEFI firmware in two flash images: its code, and what a machine's variables begin with."""

    code: Path
    variables: Path
    format: str = "raw"  #: of both images, a block driver of QEMU's

    @property
    def record(self) -> dict[str, str]:
        """Return it as JSON has it."""
        return {"code": str(self.code), "variables": str(self.variables), "format": self.format}

    @property
    def hashes(self) -> list[str]:
        """Return what a state that was saved under this firmware depends on."""
        return [_sha256(path, path.stat().st_mtime_ns) for path in (self.code, self.variables)]


def find_ovmf(machine_type: str) -> Firmware:
    """Return the OVMF for a machine type: the host's, or else one that was fetched with a QEMU.

    Raises LackingError if there is none, or none that starts a machine of this type.
    """
    found = next(_known(machine_type), None)
    if found is None:
        remedy = f"{install_line(FIRMWARE_NEEDS)}; or without root: testbed qemu fetch"
        raise LackingError(
            f"firmware=ovmf: this host has no OVMF without Secure Boot for {machine_type}",
            hint=remedy,
            remedy=remedy,
            lacking="ovmf",
        )
    return found


def _known(machine_type: str) -> Iterator[Firmware]:
    roots = (Path("/"), *(each.prefix.root for each in fetched_qemus().values()))
    for root in roots:
        for descriptor in _descriptors(root):
            yield from _described(descriptor, machine_type, root)
        for code, variables in OVMF:
            yield from _existing(code, variables, "raw", root)


def _descriptors(root: Path) -> list[Path]:
    """Return the files that describe the firmware below a root, in the order in which they are to be asked."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    folders = [_below(root, _DESCRIPTORS)]
    if root == Path("/"):
        folders += [Path("/etc/qemu/firmware"), Path(home) / "qemu/firmware"]
    by_name = {path.name: path for folder in folders for path in sorted(folder.glob("*.json"))}
    return [by_name[name] for name in sorted(by_name)]


def _described(path: Path, machine_type: str, root: Path) -> Iterator[Firmware]:
    """Yield the firmware that a file describes, if it fits; an empty file masks another, a wrong one says nothing."""
    try:
        described: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        mapping = described["mapping"]
        code, variables = mapping["executable"], mapping["nvram-template"]
        if _fits(described, machine_type) and code["format"] == variables["format"]:
            yield from _existing(code["filename"], variables["filename"], code["format"], root)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return


def _fits(described: dict[str, Any], machine_type: str) -> bool:
    q35 = machine_type.removeprefix("pc-").startswith("q35")
    # an alias is as good as the versioned type that it stands for
    versioned = machine_type if machine_type.startswith("pc-") else f"pc-{'q35' if q35 else 'i440fx'}-0"
    machines = [
        pattern
        for target in described["targets"]
        for pattern in target["machines"]
        if target["architecture"] == "x86_64"
    ]
    return (
        "uefi" in described["interface-types"]
        and described["mapping"]["device"] == "flash"
        and not _UNFIT & set(described["features"])
        and any(fnmatch(versioned, pattern) for pattern in machines)
    )


def _existing(code: str, variables: str, kind: str, root: Path) -> Iterator[Firmware]:
    firmware = Firmware(code=_below(root, Path(code)), variables=_below(root, Path(variables)), format=kind)
    if firmware.code.is_file() and firmware.variables.is_file():
        yield firmware


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


@lru_cache
def _sha256(path: Path, _changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
