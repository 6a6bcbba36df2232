"""QEMU binaries: where they are, and what they say they can do.

Features come from asking the binary over QMP, never from its version number.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import subprocess
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.host.family import run_family
from testbed.host.host import dies_with_parent
from testbed.host.qemu_answers import remembered
from testbed.host.qemu_catalog import locate
from testbed.host.qemu_prefix import prefix_of, start_command
from testbed.model.catalog import unknown
from testbed.model.device_kind import KINDS
from testbed.model.errors import BedError, InputError, LackingError
from testbed.model.json_reader import parse_json
from testbed.model.parameter import size_in_bytes
from testbed.model.value_text import SWITCHES

if TYPE_CHECKING:
    from testbed.host.qemu_prefix import Prefix

#: what the shipped templates have is asked for all at once: an answer takes a millisecond, a start of QEMU a tenth of a
#: second, and seconds on a host that is itself emulated
_COMMON = frozenset(
    (
        *(kind.driver for kind in KINDS),
        *("ICH9-LPC", "PIIX4_PM", "pcie-root-port", "pcie-pci-bridge", "pci-bridge", "pxb-pcie"),
        *("x3130-upstream", "xio3130-downstream", "intel-iommu", "amd-iommu", "virtio-serial-pci", "virtserialport"),
    )
)
#: what QEMU says of device_add where the option takes the same JSON (qapi/qdev.json)
_JSON_DEVICES = "json-cli"
_PROBE_SECONDS = 60
_PROBE_ARGUMENTS = ("-M", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S", "-qmp", "stdio")


@dataclass(frozen=True, kw_only=True)
class Qemu:
    """A QEMU binary and what it offers."""

    path: Path
    version: str  #: as QEMU reports it, e.g. `7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`
    machine_types: tuple[str, ...] = field(repr=False)  #: names and aliases
    drivers: frozenset[str] = field(repr=False)  #: what `-device` accepts
    sandbox: bool  #: built with seccomp
    json_devices: bool = True  #: whether `-device` takes JSON, as it does since 6.2
    pci_drivers: frozenset[str] = field(default=frozenset(), repr=False)  #: those of `drivers` on a PCI bus
    accelerators: tuple[str, ...] = ()  #: those built in, such as `kvm`; whether KVM runs here is another question
    capabilities: frozenset[str] = field(default=frozenset(), repr=False)  #: of migration, such as `mapped-ram`
    prefix: Prefix | None = None  #: where it was unpacked; None: it is installed, and finds its files by itself
    copy: tuple[str, ...] = ()  #: what starts its copy on another host, where it runs machines; empty: it runs here

    @property
    def command(self) -> tuple[str, ...]:
        """Return the words that start it, before any options of a machine."""
        return self.copy or start_command(self.path, self.prefix)

    @property
    def cpu_models(self) -> frozenset[str]:
        """Return the CPU models that it knows."""
        return _cpu_models(self.path)

    @property
    def cpu_features(self) -> frozenset[str]:
        """Return the names that may be switched behind a CPU model."""
        return frozenset(self.properties("max-x86_64-cpu"))

    @property
    def data_folders(self) -> tuple[Path, ...]:
        """Return the folders of its own firmware and option ROMs; none if it is installed."""
        return self.prefix.data_folders if self.prefix else ()

    def firmware(self, name: str) -> Path:
        """Return a firmware or option ROM file of its own; raise BedError if it has none of that name."""
        found = (folder / name for folder in self._firmware_folders() if (folder / name).is_file())
        if (file := next(found, None)) is None:
            raise BedError(f"QEMU {self.path}: has no {name} in {', '.join(map(str, self._firmware_folders()))}")
        return file

    def _firmware_folders(self) -> list[Path]:
        listed = remembered(self.path, "-L", partial(_list_firmware_folders, self.path))
        return [*self.data_folders, *map(Path, listed)]

    def check_machine_type(self, name: str) -> None:
        """Raise LackingError if this QEMU has no such machine type."""
        if name not in self.machine_types:
            error = unknown(f"{self.path.name}: machine type", name, self.machine_types)
            raise LackingError(error.message, hint=error.hint, lacking=name)

    def check_driver(self, driver: str) -> None:
        """Raise LackingError if this QEMU has no such device."""
        if driver not in self.drivers:
            close = unknown(f"{self.path.name} {self.version}: device", driver, self.drivers)
            hint = f"{(close.hint or '').partition('there are:')[0]}see: {shlex.join(self.command)} -device help"
            raise LackingError(close.message, hint=hint, lacking=driver)

    def properties(self, driver: str) -> dict[str, str]:
        """Return the properties of a device and their QOM types."""
        together = sorted(_COMMON & self.drivers) if driver in _COMMON else [driver]
        return _properties(self.path, *together)[driver]

    def typed(self, driver: str, name: str, value: str | int | bool) -> str | int | bool:
        """Return a property's value in the JSON type QEMU wants (a YAML `off` may be a bool or an OnOffAuto).

        Raise LackingError if the device has no such property.
        """
        kinds = self.properties(driver)
        if name not in kinds:
            error = unknown(f"device {driver}: property", name, kinds)
            raise LackingError(error.message, hint=error.hint, lacking=name)
        if kinds[name] == "bool":
            return SWITCHES.get(str(value).lower(), value)
        if kinds[name].lstrip("u").startswith("int") or kinds[name] == "size":
            return _number(value) if isinstance(value, str) else value
        if kinds[name].startswith("OnOff"):
            value = SWITCHES.get(str(value).lower(), value)
        if isinstance(value, bool):
            return "on" if value else "off"
        return str(value)


def find_qemu(name: str = "") -> Qemu:
    """Return the QEMU of a path, program or fetched name, or the default one.

    Raises:
        LackingError: this host has none of that name.
        InputError: it cannot be used.
    """
    return probe(locate(name))


@lru_cache
def probe(path: Path) -> Qemu:
    """Return what a binary says of itself; raise InputError if it cannot be used."""
    greeting, machines, types, pci_types, accelerators, capabilities = _ask(
        path,
        ("query-machines", {}),
        ("qom-list-types", {"implements": "device"}),
        ("qom-list-types", {"implements": "pci-device"}),
        ("qom-list-types", {"implements": "accel"}),
        ("query-migrate-capabilities", {}),
    )
    names = [name for each in machines for name in (each["name"], each.get("alias")) if name]
    return Qemu(
        path=path,
        version=_version(greeting),
        machine_types=tuple(names),
        drivers=_concrete(types),
        sandbox=_has_sandbox(path),
        json_devices=_takes_json(path),
        pci_drivers=_concrete(pci_types),
        accelerators=tuple(sorted(name.removesuffix("-accel") for name in _concrete(accelerators) if name != "accel")),
        capabilities=frozenset(each["capability"] for each in capabilities),
        prefix=prefix_of(path),
    )


def _takes_json(path: Path) -> bool:
    """Ask whether `-device` takes JSON; of the schema that tells it, a quarter of a megabyte, no more is remembered."""

    def asked() -> bool:
        _, schema = _ask_now(path, ("query-qmp-schema", {}))
        features = next((each.get("features", ()) for each in schema if each["name"] == "device_add"), ())
        return _JSON_DEVICES in features

    return bool(remembered(path, _JSON_DEVICES, asked))


def _concrete(types: list[dict[str, Any]]) -> frozenset[str]:
    return frozenset(each["name"] for each in types if not each.get("abstract"))


@lru_cache
def _cpu_models(path: Path) -> frozenset[str]:
    definitions = _ask(path, ("query-cpu-definitions", {}))[1]
    return frozenset(each["name"] for each in definitions)


@lru_cache
def _properties(path: Path, *drivers: str) -> dict[str, dict[str, str]]:
    _, *lists = _ask(path, *(("device-list-properties", {"typename": driver}) for driver in drivers))
    return {
        driver: {each["name"]: each["type"] for each in listed} for driver, listed in zip(drivers, lists, strict=True)
    }


def _ask(path: Path, *commands: tuple[str, dict[str, Any]]) -> list[Any]:
    """Return QEMU's greeting and its reply to each QMP command."""
    replies: list[Any] = remembered(path, json.dumps(commands), partial(_ask_now, path, *commands))
    return replies


def _ask_now(path: Path, *commands: tuple[str, dict[str, Any]]) -> list[Any]:
    """Start an empty machine, run QMP commands and return the greeting and each reply."""
    lines = [{"execute": "qmp_capabilities"}]
    lines += [{"execute": name, "arguments": arguments, "id": n} for n, (name, arguments) in enumerate(commands)]  # type: ignore[dict-item]
    text = "".join(json.dumps(line) + "\n" for line in (*lines, {"execute": "quit"}))
    result = _run(path, *_PROBE_ARGUMENTS, stdin=text)
    replies = [reply for line in result.stdout.splitlines() if line.startswith("{") for reply in _object(line)]
    answers = {reply["id"]: reply.get("return") for reply in replies if "id" in reply}
    if not replies or "QMP" not in replies[0] or len(answers) != len(commands):
        complaint = result.stderr.strip() or f"exit status {result.returncode}, no QMP greeting"
        raise InputError(f"QEMU {path}: cannot be probed: {complaint}", hint=f"try: {path} --version")
    return [replies[0], *(answers[n] for n in range(len(commands)))]


def _object(line: str) -> list[dict[str, Any]]:
    """Return the JSON object on a line; nothing if it is none, as another program may print it."""
    try:
        return [parse_json(line)]
    except ValueError:
        return []


def _check_program(path: Path) -> None:
    """Raise OSError for what the kernel would not start: behind a shell it would be taken for a script."""
    if not os.access(path, os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    with path.open("rb") as file:
        if not file.read(4).startswith((b"\x7fELF", b"#!")):
            raise OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC))


def _run(path: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    try:
        _check_program(path)
        return run_family(
            # without it one that hangs, or whose bed is ended meanwhile, would stay
            dies_with_parent([*start_command(path, prefix_of(path)), *arguments]),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_SECONDS,
        )
    except OSError as error:
        raise InputError(f"QEMU {path}: cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        hint = 'a wrapper script must pass on its standard input: exec 3<&0; qemu-system-x86_64 "$@" <&3 &'
        raise InputError(f"QEMU {path}: did not answer within {_PROBE_SECONDS} s", hint=hint) from None


def _list_firmware_folders(path: Path) -> list[str]:
    return _run(path, "-L", "help").stdout.split()


def _has_sandbox(path: Path) -> bool:
    """Ask whether `-sandbox` is compiled in; without seccomp the option is refused."""
    return bool(remembered(path, "-sandbox", lambda: _run(path, "-sandbox", "on", "-version").returncode == 0))


def _version(greeting: dict[str, Any]) -> str:
    version = greeting["QMP"]["version"]
    number = ".".join(str(version["qemu"][part]) for part in ("major", "minor", "micro"))
    package = version.get("package", "").strip()
    return f"{number} ({package})" if package and not package.startswith("v") else number


def _number(text: str) -> int | str:
    """Return the number, or the bytes of a size such as `4K`; what is neither QEMU refuses in its own words."""
    for read in (partial(int, base=0), size_in_bytes):
        with contextlib.suppress(ValueError):
            return read(text)
    return text
