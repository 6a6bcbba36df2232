"""LibvirtDomain: what a libvirt domain's XML says of the hardware a test-bed machine can have, each with its line.

Elements and attributes are those of https://libvirt.org/formatdomain.html. Controllers without a number get one as when
libvirt defines the domain: the lowest that is free (src/conf/domain_conf.c, virDomainAssignControllerIndexes).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.device_kind import device_kind
from testbed.model.errors import InputError
from testbed.model.xml_reader import read_xmls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testbed.model.xml_reader import Element

#: bytes in a unit of memory; without one it is KiB
_UNITS = {"b": 1, "bytes": 1, "KB": 10**3, "k": 1 << 10, "KiB": 1 << 10, "MB": 10**6, "M": 1 << 20, "MiB": 1 << 20}
_UNITS |= {"GB": 10**9, "G": 1 << 30, "GiB": 1 << 30, "TB": 10**12, "T": 1 << 40, "TiB": 1 << 40}

#: what libvirt calls a model or bus, by the tag, and the short name here
_DISKS = {"virtio": "virtio-blk", "nvme": "nvme"}
_NICS = {
    "virtio": "virtio-net",
    "virtio-transitional": "virtio-net-transitional",
    "virtio-non-transitional": "virtio-net-modern",
    "e1000": "e1000",
    "e1000e": "e1000e",
    "igb": "igb",
}
#: the bus that the machine begins with
ROOTS = ("pci-root", "pcie-root")
_SCSI = ("virtio-scsi", "virtio-transitional", "virtio-non-transitional")
_USB = {"qemu-xhci": "xhci"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """An address of type pci."""

    bus: int
    slot: int
    function: int


@dataclass(frozen=True, kw_only=True)
class PciController:
    """A `<controller type='pci'>`: a bus, and where its bridge stands."""

    element: Element
    index: int  #: the number of the bus it makes
    model: str
    place: Place | None  #: None for a root bus
    hotplug: bool


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A device that the templates know by a short name."""

    element: Element
    kind: str
    place: Place | None


class LibvirtDomain:
    """A domain as read from its XML."""

    def __init__(self, root: Element, source: str) -> None:
        self.root = root
        self.source = source
        self._check()

    @classmethod
    def read(cls, path: Path) -> list[LibvirtDomain]:
        """Read every domain of a file, pasted in whatever form; raise InputError if one is of another architecture."""
        return [cls(root, str(path)) for root in read_xmls(path, "domain")]

    @property
    def name(self) -> str:
        """Return what it is called."""
        return self.root.words("name")

    @property
    def has_acpi(self) -> bool:
        """Return whether libvirt starts QEMU with ACPI: only `<features><acpi/>` says so."""
        return self.root.find("features/acpi") is not None

    @property
    def machine_type(self) -> str:
        """Return QEMU's machine type; where the domain leaves it open that of its root bus, or QEMU's default."""
        models = {each.attributes.get("model") for each in self.root.all("devices/controller") if _is(each, "pci")}
        return self.root.get("os/type", "machine") or ("q35" if "pcie-root" in models else "pc")

    @property
    def memory_mib(self) -> int:
        """Return the memory; 0 if the domain does not say."""
        element = self.root.find("memory")
        if element is None:
            return 0
        unit = element.attributes.get("unit", "KiB")
        if unit not in _UNITS:
            raise self.mistake(element, f"unknown unit {unit!r}")
        return self.number(element, element.text) * _UNITS[unit] >> 20

    @property
    def cpus(self) -> int:
        """Return the number of CPUs it starts with."""
        element = self.root.find("vcpu")
        return self.number(element, element.attributes.get("current", element.text)) if element else 1

    @property
    def controllers(self) -> dict[int, PciController]:
        """Return the PCI controllers by the number of their bus."""
        elements = [each for each in self.root.all("devices/controller") if _is(each, "pci")]
        taken = {self.number(each, each.attributes["index"]) for each in elements if "index" in each.attributes}
        free = (index for index in itertools.count(1) if index not in taken)
        found = [self._controller(each, free) for each in elements]
        return {each.index: each for each in found}

    @property
    def endpoints(self) -> list[Endpoint]:
        """Return the devices that have a short name, in the order of their addresses."""
        found = list(self._endpoints())
        last = Place(bus=1 << 16, slot=0, function=0)
        return sorted(found, key=lambda each: _order(each.place or last))

    @property
    def qemu_globals(self) -> dict[str, tuple[str, Element]]:
        """Return the `-global` options of `<qemu:commandline>`: `driver.property` to value and element."""
        arguments = self.root.all("qemu:commandline/qemu:arg")
        values = [each.attributes.get("value", "") for each in arguments]
        pairs = zip(values, arguments[1:], strict=False)
        found = {}
        for option, element in pairs:
            name, separator, value = element.attributes.get("value", "").partition("=")
            if option == "-global" and separator:
                found[name] = (value, element)
        return found

    def place(self, element: Element) -> Place | None:
        """Return where a device stands; None if the domain leaves that open, or it is not on PCI."""
        address = element.find("address")
        if address is None or not _is(address, "pci"):
            return None
        bus, slot, function = (self.number(address, address.attributes.get(key, "0")) for key in Place.__annotations__)
        return Place(bus=bus, slot=slot, function=function)

    def number(self, element: Element, text: str) -> int:
        """Return a number of an element; raise InputError with its line if it is none."""
        try:
            value = int(text.strip(), 0)
        except ValueError:
            raise self.mistake(element, f"{text.strip()[:40]!r} is not a number") from None
        if value < 0:
            raise self.mistake(element, f"{value} is negative")
        return value

    def mistake(self, element: Element, words: str) -> InputError:
        """Build the error of one element."""
        return InputError(f"{self.source}:{element.line}: <{element.tag}>: {words}")

    def _check(self) -> None:
        if self.root.tag != "domain":
            hint = "pass what virsh dumpxml NAME prints"
            raise InputError(f"{self.source}:{self.root.line}: is <{self.root.tag}>, not a libvirt <domain>", hint=hint)
        kind = self.root.find("os/type")
        if kind is None:
            hint = "dump a defined domain, which has one: virsh dumpxml NAME"
            raise InputError(f"{self.source}:{self.root.line}: has no <os><type machine=…>", hint=hint)
        arch = kind.attributes.get("arch", "x86_64")
        if arch != "x86_64":
            raise self.mistake(kind, f"is for {arch}; the test bed has machines for x86_64 only")

    def _controller(self, element: Element, free: Iterator[int]) -> PciController:
        model, index = element.attributes.get("model", ""), element.attributes.get("index")
        unnumbered = 0 if model in ROOTS or index is not None else next(free)
        number = unnumbered if index is None else self.number(element, index)
        return PciController(
            element=element,
            index=number,
            model=model,
            place=self.place(element),
            hotplug=element.get("target", "hotplug", "on") != "off",
        )

    def _endpoints(self) -> Iterator[Endpoint]:
        for element in self.root.all("devices/disk"):
            kind = _DISKS.get(element.get("target", "bus"), "")
            if kind and element.attributes.get("device", "disk") == "disk":
                yield Endpoint(element=element, kind=kind, place=self.place(element))
        for element in self.root.all("devices/interface"):
            kind = _NICS.get(element.get("model", "type"), "")
            if kind and element.attributes.get("type") != "hostdev":
                yield Endpoint(element=element, kind=kind, place=self.place(element))
        for element in self.root.all("devices/controller"):
            model = element.attributes.get("model", "")
            kind = "virtio-scsi" if _is(element, "scsi") and model in _SCSI else ""
            kind = kind or (_USB.get(model, "") if _is(element, "usb") else "")
            if kind:
                yield Endpoint(element=element, kind=kind, place=self.place(element))


def is_disk(endpoint: Endpoint) -> bool:
    """Return whether an endpoint is one that disks are on."""
    return device_kind(endpoint.kind).proof == "disk"


def _is(element: Element, kind: str) -> bool:
    return element.attributes.get("type") == kind


def _order(place: Place) -> tuple[int, int, int]:
    return place.bus, place.slot, place.function
