"""What this host can run of a machine that is like a domain: the nearest its QEMU has, and a size that it bears."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from testbed.host.firmware import find_ovmf
from testbed.host.memory import OVERHEAD, available_mib
from testbed.host.qemu import find_qemu
from testbed.host.qemu_catalog import known_qemus
from testbed.machine.machine_type import nearest, upstream
from testbed.machine.template import load_template
from testbed.model.device_kind import device_kind
from testbed.model.errors import InputError, LackingError

if TYPE_CHECKING:
    from testbed.host.qemu import Qemu
    from testbed.machine.libvirt import Recreation

_LEAST_MIB = 512


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A machine of this host, and in what it differs from the one that is like the domain."""

    machine: Recreation
    qemu: str = ""  #: the name of a QEMU that has all of it, where the default one does not
    differences: list[str] = field(default_factory=list)
    scenario: str = ""  #: a scenario that fits it; empty if none does
    size: dict[str, Any] = field(default_factory=dict)  #: parameters that only a run has: memory and CPUs it can bear


def fit(machine: Recreation) -> Fit:
    """Return what of a machine this host can run, with the QEMU that lacks least; without any, the machine as it is."""
    names = ["", *list(known_qemus())[1:]]
    qemus = [(name, qemu) for name in names if (qemu := _usable(name))]
    fits = [(name, *_adapted(machine, qemu)) for name, qemu in qemus]
    # the default one comes first, so that of two that lack as much it is taken
    name, fitted, differences = min(fits, key=lambda each: len(each[2]), default=("", machine, []))
    return Fit(machine=fitted, qemu=name, differences=differences, scenario=_scenario(fitted), size=_size(fitted))


def _usable(name: str) -> Qemu | None:
    try:
        return find_qemu(name)
    except InputError:
        return None


def _adapted(machine: Recreation, qemu: Qemu) -> tuple[Recreation, list[str]]:
    """Return the machine without what a QEMU lacks, and what that is."""
    parameters = dict(machine.parameters)
    lacking = []
    if parameters["type"] not in qemu.machine_types:
        instead = str(nearest(upstream(parameters["type"], machine.template), qemu.machine_types))
        lacking.append(f"{parameters['type']}: the nearest it has is {instead}")
        parameters["type"] = instead
    strange = [name for name in dict.fromkeys(machine.parameters["devices"]) if not _has_device(name, qemu)]
    parameters["devices"] = [name for name in parameters["devices"] if name not in strange]
    unknown = _unknown_globals(machine, qemu)
    parameters["globals"] = {key: value for key, value in parameters.get("globals", {}).items() if key not in unknown}
    lacking += [f"{name}: left out" for name in (*strange, *unknown)]
    if (problem := _cpu_problem(machine, qemu)) is not None:
        parameters["cpu"] = _known_cpu(parameters["cpu"], qemu)
        lacking.append(f"{problem}: cpu={parameters['cpu']}")
    if parameters.get("firmware") == "ovmf" and not _has_ovmf(parameters["type"]):
        del parameters["firmware"]
        lacking.append("OVMF: SeaBIOS instead")
    version = qemu.version.split()[0]
    return replace(machine, parameters=parameters), [f"QEMU {version} here has no {each}" for each in lacking]


def _has_device(name: str, qemu: Qemu) -> bool:
    return device_kind(name).driver in qemu.drivers


def _has_ovmf(machine_type: str) -> bool:
    try:
        find_ovmf(machine_type)
    except LackingError:
        return False
    return True


def _unknown_globals(machine: Recreation, qemu: Qemu) -> list[str]:
    pairs = ((name, *name.partition(".")[::2]) for name in machine.parameters.get("globals", {}))
    return [name for name, driver, prop in pairs if driver not in qemu.drivers or prop not in qemu.properties(driver)]


def _cpu_problem(machine: Recreation, qemu: Qemu) -> str | None:
    """Return the CPU model or feature that a QEMU lacks, if one does."""
    cpu = machine.parameters.get("cpu", "auto")
    if cpu == "auto":
        return None
    model, *flags = cpu.split(",")
    if model not in qemu.cpu_models:
        return f"CPU model {model}"
    lacking = [flag.partition("=")[0] for flag in flags if flag.partition("=")[0] not in qemu.cpu_features]
    return f"CPU feature {', '.join(lacking)}" if lacking else None


def _known_cpu(cpu: str, qemu: Qemu) -> str:
    """Return as much of a `-cpu` value as a QEMU knows."""
    model, *flags = cpu.split(",")
    if model not in qemu.cpu_models:
        return "auto"
    return ",".join([model, *(flag for flag in flags if flag.partition("=")[0] in qemu.cpu_features)])


def _scenario(machine: Recreation) -> str:
    """Return a question that the machine has what it takes to be asked."""
    proofs = [device_kind(name).proof for name in machine.parameters["devices"]]
    if "disk" in proofs:
        return "disk-unplug"
    if "nic" in proofs:
        return "nic-unplug"
    return "disk-plug" if load_template(machine.template).spec(machine.parameters).slots else ""


def _size(machine: Recreation) -> dict[str, Any]:
    """Return the memory and CPUs of a run, where the domain has more than this host bears."""
    declared = load_template(machine.template).parameters
    memory = machine.parameters.get("memory", declared["memory"].default)
    bearable = max(_LEAST_MIB, (available_mib() - OVERHEAD) // 2)
    cpus, most_cpus = machine.parameters.get("cpus", 1), max(4, 2 * len(os.sched_getaffinity(0)))
    size = {}
    if memory > bearable:
        size["memory"] = bearable
    if cpus > most_cpus:
        size["cpus"] = most_cpus
    return size
