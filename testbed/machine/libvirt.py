"""From a libvirt domain to a machine template and its parameters, and what of the domain is lost on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from testbed.machine.libvirt_domain import ROOTS, is_disk
from testbed.machine.machine_type import chipset_of, upstream
from testbed.machine.template import load_template
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.machine.libvirt_domain import Endpoint, LibvirtDomain, PciController
    from testbed.model.xml_reader import Element

#: what the templates have places for, by the model of the bus a device stands on
_TOPOLOGIES = {
    "q35": {
        "pcie-root-port": "ports",
        "pcie-switch-downstream-port": "switch",
        "pcie-to-pci-bridge": "pcie-pci-bridge",
        "pci-bridge": "pci-bridge",
    },
    "i440fx": {"pci-root": "root", "pci-bridge": "pci-bridge"},
}
#: `-global` options that decide who serves hot-plug: template, option, value to the parameter's value
_GLOBALS = {
    ("q35", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support"): {"off": "native", "on": "acpi"},
    ("i440fx", "PIIX4_PM.acpi-root-pci-hotplug"): {"off": "off", "on": "acpi"},
    ("i440fx", "PIIX4_PM.acpi-pci-hotplug-with-bridge-support"): {"off": "shpc", "on": "acpi"},
}
#: libvirt's src/qemu/qemu_capabilities.c, virQEMUCapsCPUFilterFeatures: never handed to QEMU
_LIBVIRT_FEATURES = frozenset(("cmt", "mbm_total", "mbm_local", "osxsave", "ospke"))
#: says nothing of the hardware, or is in every machine of the test bed
_SILENT = {
    *("name", "uuid", "genid", "title", "description", "metadata", "currentMemory", "resource", "seclabel", "pm"),
    *("on_poweroff", "on_reboot", "on_crash", "on_lockfailure", "emulator", "clock", "os", "memory", "vcpu"),
    *("devices", "cpu", "features", "qemu:commandline"),
}
#: children of elements that the machine has anyway
_USUAL = {
    "features": {"acpi", "apic"},
    "os": {"type", "boot", "bootmenu", "kernel", "initrd", "cmdline"},
}
_REASONS = {
    "hostdev": "a host device",
    "cputune": "about the host",
    "memoryBacking": "about the host",
    "numatune": "about the host",
    "iothreads": "about the host",
    "blkiotune": "about the host",
}


@dataclass(frozen=True, kw_only=True)
class Remark:
    """What became of one element."""

    line: int
    words: str


@dataclass(kw_only=True)
class Recreation:
    """A machine that is like a domain."""

    template: str
    parameters: dict[str, Any] = field(default_factory=dict)
    cmdline: str = ""
    kept: list[Remark] = field(default_factory=list)
    left_out: list[Remark] = field(default_factory=list)
    controllers: list[int] = field(default_factory=list)  #: buses of the domain's that the topology stands for

    @property
    def topology(self) -> str:
        """Return where the devices stand."""
        return str(self.parameters["topology"])

    def options(self, **others: Any) -> list[str]:
        """Return the parameters as words of a command line, some with other values; defaults are left out."""
        declared = load_template(self.template).parameters
        values = {**self.parameters, **others}
        changed = {name: value for name, value in values.items() if value != declared[name].default}
        words = [word for name, value in changed.items() for word in ("-p", f"{name}={_text(value)}")]
        return [*words, *(["--cmdline", self.cmdline] if self.cmdline else [])]


def recreate(domain: LibvirtDomain) -> Recreation:
    """Return the nearest machine the templates have; raise InputError if no template is for its machine type."""
    machine = Recreation(template=_template(domain))
    _size(domain, machine)
    _cpu(domain, machine)
    _devices(domain, machine)
    _hotplug(domain, machine)
    _acpi(domain, machine)
    _firmware(domain, machine)
    _controllers(domain, machine)
    _rest(domain, machine)
    machine.left_out.sort(key=lambda remark: remark.line)
    machine.kept.sort(key=lambda remark: remark.line)
    load_template(machine.template).spec(machine.parameters)
    return machine


def _template(domain: LibvirtDomain) -> str:
    name = domain.machine_type
    if chipset := chipset_of(name):
        return chipset
    element = domain.root.find("os/type")
    line = element.line if element else 1
    raise InputError(f"{domain.source}:{line}: machine type {name!r}: there are templates for q35 and i440fx only")


def _size(domain: LibvirtDomain, machine: Recreation) -> None:
    _type(domain, machine)
    if domain.memory_mib:
        _fit(domain, machine, "memory", domain.memory_mib, domain.root.find("memory"))
    _fit(domain, machine, "cpus", domain.cpus, domain.root.find("vcpu"))
    line = domain.root.find("os/cmdline")
    if domain.root.words("os/kernel"):
        machine.cmdline = domain.root.words("os/cmdline")
    elif line:
        words = "<cmdline> without a <kernel>: the disk's own boot loader has the line; give it with --cmdline"
        machine.left_out.append(Remark(line=line.line, words=words))


def _type(domain: LibvirtDomain, machine: Recreation) -> None:
    """Set the machine type: the upstream one that the domain's stands for."""
    name = domain.machine_type
    machine.parameters["type"] = stands_for = str(upstream(name, machine.template))
    element = domain.root.find("os/type")
    if element and "machine" not in element.attributes:
        machine.kept.append(Remark(line=element.line, words=f"no machine type: type={stands_for}, libvirt's default"))
    if stands_for != name and element:
        machine.kept.append(Remark(line=element.line, words=f"vendor machine type {name}: type={stands_for}"))


def _fit(domain: LibvirtDomain, machine: Recreation, name: str, value: int, element: Element | None) -> None:
    """Set a parameter to a number, or to the nearest one that it can be."""
    declared = load_template(machine.template).parameters[name]
    low, high = declared.min or 0, value if declared.max is None else declared.max
    machine.parameters[name] = min(max(value, low), high)
    if machine.parameters[name] != value:
        where = element or domain.root
        machine.left_out.append(Remark(line=where.line, words=f"{name} is {value}, here {machine.parameters[name]}"))


def _cpu(domain: LibvirtDomain, machine: Recreation) -> None:
    element = domain.root.find("cpu")
    if element is None:
        return
    mode, model = element.attributes.get("mode", "custom"), element.words("model")
    if mode == "custom" and model:
        machine.parameters["cpu"] = ",".join([model, *_cpu_flags(element)])
        machine.left_out += [
            Remark(
                line=each.line,
                words=f"<feature> {each.get('', 'name')}: known only to libvirt; QEMU has no such feature",
            )
            for each in element.all("feature")
            if each.get("", "name") in _LIBVIRT_FEATURES
        ]
    elif mode in ("host-passthrough", "maximum"):
        machine.kept.append(
            Remark(line=element.line, words=f"<cpu mode='{mode}'> becomes cpu=auto: under KVM, the host's CPU")
        )
    else:
        machine.left_out.append(
            Remark(line=element.line, words=f"<cpu mode='{mode}'>: depends on the host: -p cpu=MODEL")
        )
    machine.left_out += [
        Remark(line=child.line, words=f"<cpu><{child.tag}>: the machine has one socket with one thread per core")
        for child in element.children
        if child.tag in ("topology", "numa")
    ]


def _cpu_flags(element: Element) -> list[str]:
    switch = {"force": "on", "require": "on", "optional": "on", "disable": "off", "forbid": "off"}
    features = [each for each in element.all("feature") if each.get("", "name") not in _LIBVIRT_FEATURES]
    names = [each.get("", "name").replace("_", "-") for each in features]
    states = [switch.get(each.get("", "policy", "require"), "on") for each in features]
    return [f"{name}={state}" for name, state in zip(names, states, strict=True)]


def _devices(domain: LibvirtDomain, machine: Recreation) -> None:
    """Choose the topology in which the first disk stands, and put every device that has a short name into it."""
    controllers, endpoints = domain.controllers, domain.endpoints
    most = 12 if machine.template == "i440fx" else 28
    machine.left_out += [_lost(each, f"there is room for {most} devices") for each in endpoints[most:]]
    endpoints = endpoints[:most]
    first = next((each for each in endpoints if is_disk(each)), next(iter(endpoints), None))
    bus = first.place.bus if first and first.place else 0
    chosen = _topology(machine.template, controllers, bus)
    machine.parameters["topology"] = chosen
    machine.parameters["devices"] = [each.kind for each in endpoints]
    for n, each in enumerate(endpoints, 1):
        machine.kept.append(Remark(line=each.element.line, words=f"{_title(each.element)} is {each.kind}, dev{n}"))
        on = _model(controllers, each.place.bus if each.place else 0)
        if each.place and _topology(machine.template, controllers, each.place.bus, strict=True) != chosen:
            machine.left_out.append(_lost(each, f"is on {on}; here it sits beside the other devices"))
    machine.left_out += _shared_slots(endpoints)
    _depth(machine, controllers, bus)
    if machine.template == "q35":
        _ports(domain, machine, controllers, bus, least=len(endpoints))


def _topology(template: str, controllers: dict[int, PciController], bus: int, *, strict: bool = False) -> str:
    """Return the topology that has a device on this bus; "" where `strict` and there is none."""
    known = _TOPOLOGIES[template]
    model = _model(controllers, bus)
    if model == "pcie-root-port" and _model(controllers, _parent(controllers, bus)) == "pcie-expander-bus":
        return "pxb"
    return known.get(model, "" if strict else next(iter(known.values())))


def _model(controllers: dict[int, PciController], bus: int) -> str:
    return controllers[bus].model if bus in controllers else ""


def _parent(controllers: dict[int, PciController], bus: int) -> int:
    place = controllers[bus].place if bus in controllers else None
    return place.bus if place else 0


def _depth(machine: Recreation, controllers: dict[int, PciController], bus: int) -> None:
    """Count the switches or bridges above a device's bus."""
    counted = {"switch": "pcie-switch-upstream-port", "pci-bridge": "pci-bridge"}.get(machine.parameters["topology"])
    above: list[int] = []
    while bus in controllers and bus not in above:
        above.append(bus)
        bus = _parent(controllers, bus)
    machine.controllers += above
    depth = sum(controllers[each].model == counted for each in above)
    if counted:
        machine.parameters["depth"] = min(max(depth, 1), 8)


def _ports(
    domain: LibvirtDomain, machine: Recreation, controllers: dict[int, PciController], bus: int, *, least: int
) -> None:
    topology = machine.parameters["topology"]
    ports = _siblings(controllers, bus) if topology in ("ports", "pxb", "switch") else []
    machine.controllers += [each.index for each in ports]
    count = max(len(ports), least) if ports else max(least, load_template("q35").parameters["ports"].default)
    _fit(domain, machine, "ports", count, ports[0].element if ports else None)
    if topology != "switch":
        shared = Counter(each.place.slot for each in ports if each.place)
        # libvirt makes ports without an address functions of few slots (qemuDomainAssignPCIAddresses)
        alone = min(sum(each.place is None for each in ports), 8)
        machine.parameters["ports_per_slot"] = min(max([alone, *shared.values()], default=1) or 1, 8)
    off = [each for each in ports if not each.hotplug]
    if off and len(off) == len(ports):
        machine.parameters["port_properties"] = {"hotplug": False}
    else:
        machine.left_out += [
            Remark(line=each.element.line, words="<target hotplug='off'>: not every port has it") for each in off
        ]


def _siblings(controllers: dict[int, PciController], bus: int) -> list[PciController]:
    """Return the ports beside the one that makes this bus, and itself; all root ports if none does."""
    if bus in controllers and controllers[bus].place:
        return [
            each
            for each in controllers.values()
            if each.model == controllers[bus].model and each.place and each.place.bus == _parent(controllers, bus)
        ]
    return [each for each in controllers.values() if each.model == "pcie-root-port"]


def _shared_slots(endpoints: Sequence[Endpoint]) -> list[Remark]:
    return [
        _lost(each, f"is function {each.place.function} of its slot; here it has its own slot")
        for each in endpoints
        if each.place and each.place.function
    ]


def _hotplug(domain: LibvirtDomain, machine: Recreation) -> None:
    """Take over who serves hot-plug, where that was given to QEMU directly or by the root bus."""
    bridge = machine.parameters["topology"] == "pci-bridge"
    for name, (value, element) in domain.qemu_globals.items():
        words = _GLOBALS.get((machine.template, name), {})
        about_root = name.endswith("acpi-root-pci-hotplug")
        if value in words and (machine.template == "q35" or about_root is not bridge):
            machine.parameters["hotplug"] = words[value]
            machine.kept.append(Remark(line=element.line, words=f"-global {name}={value} is hotplug={words[value]}"))
        elif "." in name and "," not in f"{name}{value}":
            further = machine.parameters.setdefault("globals", {})
            further |= load_template(machine.template).parse("globals", f"{name}={value}")
            machine.kept.append(Remark(line=element.line, words=f"-global {name}={value}"))
        else:
            machine.left_out.append(Remark(line=element.line, words=f"-global {name}={value}"))
    root = domain.controllers.get(0)
    if root and not root.hotplug and machine.template == "i440fx" and not bridge:
        machine.parameters["hotplug"] = "off"
        machine.kept.append(Remark(line=root.element.line, words="<target hotplug='off'> of pci-root is hotplug=off"))


def _acpi(domain: LibvirtDomain, machine: Recreation) -> None:
    """Take over that there is no ACPI: libvirt starts QEMU with acpi=off then."""
    if not domain.has_acpi:
        element = domain.root.find("features") or domain.root
        machine.parameters["acpi"] = "off"
        words = "no <acpi/> becomes acpi=off: no _OSC, ECAM or ACPI hot-plug, which decides who serves the slots"
        machine.kept.append(Remark(line=element.line, words=words))


def _firmware(domain: LibvirtDomain, machine: Recreation) -> None:
    """Take over that the domain starts by UEFI: libvirt is told so, or is given the flash image of one."""
    os, loader = domain.root.find("os"), domain.root.find("os/loader")
    if os is None or not (os.get("", "firmware") == "efi" or (loader and loader.get("", "type") == "pflash")):
        return
    machine.parameters["firmware"] = "ovmf"
    line = (loader or os).line
    machine.kept.append(Remark(line=line, words="UEFI becomes firmware=ovmf, with the run's own variables"))
    if loader and loader.get("", "secure") == "yes":
        machine.left_out.append(
            Remark(line=line, words="<loader secure='yes'>: no Secure Boot, since it locks the kernel down")
        )


def _controllers(domain: LibvirtDomain, machine: Recreation) -> None:
    """Name each PCI controller: as one of those that the machine has, or as left out."""
    named = set(machine.controllers)
    for model in dict.fromkeys(each.model for each in domain.controllers.values()):
        same = [each for each in domain.controllers.values() if each.model == model]
        kept = [each for each in same if each.index in named or each.model in ROOTS]
        if kept:
            words = f"<controller> pci {model} {_indexes(kept)}: {_represented(model, kept, machine)}"
            machine.kept.append(Remark(line=kept[0].element.line, words=words))
        for each in same:
            if each not in kept:
                on = f" on bus {each.place.bus}" if each.place else ""
                words = f"<controller> pci {each.model} {each.index}{on}: the machine has topology={machine.topology}"
                machine.left_out.append(Remark(line=each.element.line, words=words))


def _indexes(controllers: Sequence[PciController]) -> str:
    return ", ".join(str(each.index) for each in controllers)


def _represented(model: str, kept: Sequence[PciController], machine: Recreation) -> str:
    if model in ROOTS:
        return "the machine's root bus"
    if machine.template == "q35" and model in ("pcie-root-port", "pcie-switch-downstream-port") and len(kept) > 1:
        return f"ports={machine.parameters['ports']}"
    return f"topology={machine.topology}"


def _rest(domain: LibvirtDomain, machine: Recreation) -> None:
    """Name all that no parameter stands for."""
    others = [element for element in domain.root.children if element.tag not in _SILENT]
    machine.left_out += [_unknown(element) for element in others]
    _rest_of_devices(domain, machine)
    known_here = {"loader", "nvram"} if machine.parameters.get("firmware") == "ovmf" else set()
    for tag, usual in _USUAL.items():
        children = [child for parent in domain.root.all(tag) for child in parent.children]
        machine.left_out += [_unknown(child) for child in children if child.tag not in usual | known_here]
    known = {id(element) for _, element in domain.qemu_globals.values()}
    for argument in domain.root.all("qemu:commandline/qemu:arg"):
        words = argument.get("", "value")
        if id(argument) not in known and words != "-global":
            machine.left_out.append(Remark(line=argument.line, words=f"QEMU argument {words}"))


def _rest_of_devices(domain: LibvirtDomain, machine: Recreation) -> None:
    pci = (each.element for each in domain.controllers.values())
    known = {id(element) for element in (*pci, *(each.element for each in domain.endpoints))}
    has_scsi = "virtio-scsi" in machine.parameters["devices"]
    for element in (child for parent in domain.root.all("devices") for child in parent.children):
        bus = element.get("target", "bus")
        if id(element) in known or element.tag in _SILENT:
            continue
        if element.tag == "disk" and bus == "scsi" and has_scsi:
            machine.kept.append(Remark(line=element.line, words=f"{_title(element)} is the disk of a virtio-scsi"))
        else:
            machine.left_out.append(_unknown(element))


def _lost(endpoint: Endpoint, words: str) -> Remark:
    return Remark(line=endpoint.element.line, words=f"{_title(endpoint.element)} {words}")


def _unknown(element: Element) -> Remark:
    reason = _REASONS.get(element.tag, "")
    return Remark(line=element.line, words=_title(element) + (f": {reason}" if reason else ""))


def _title(element: Element) -> str:
    """Return what to call an element: its tag, and what tells it from others of its kind."""
    target, model = element.get("target", "dev"), element.get("model", "type") or element.get("", "model")
    names = [element.get("", "type"), model, element.get("target", "bus"), target]
    return " ".join([f"<{element.tag}>", *(name for name in dict.fromkeys(names) if name)])


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, dict):
        return ",".join(f"{key}={_text(each)}" for key, each in value.items())
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
