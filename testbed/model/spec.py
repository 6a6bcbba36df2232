"""MachineSpec: a QEMU machine described as hardware, before any process exists.

Names and values are QEMU's own (`driver`, `id`, `bus`, `chassis`). An id is chosen in the template and typed nowhere
else.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

Property = str | int | bool
KernelStart = Literal["auto", "pvh", "bzimage"]
FirmwareKind = Literal["seabios", "ovmf"]
#: QEMU's rule for ids (util/id.c): a letter, then letters, digits, `-`, `.`, `_`
ID_PATTERN = r"^[A-Za-z][A-Za-z0-9._-]*$"
Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
#: a slot of a PCI bus, with a function or without
ADDR_PATTERN = r"^(0x)?[0-9a-fA-F]{1,2}(\.[0-7])?$"
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]

#: drivers whose bus has one slot: a second device there would have to be another function
SINGLE_SLOT_BUSES = ("pcie-root-port", "ioh3420", "xio3130-downstream")
#: drivers that bring another root bus of their own, named like their id
EXPANDERS = ("pxb", "pxb-pcie")
#: drivers whose bus is conventional PCI
CONVENTIONAL_BRIDGES = ("pci-bridge", "pcie-pci-bridge", "i82801b11-bridge")
#: drivers that bring a PCI bus named like their id
BUS_DRIVERS = (*SINGLE_SLOT_BUSES, *EXPANDERS, *CONVENTIONAL_BRIDGES, "x3130-upstream")
#: drivers that bring a bus of another kind, named `<id>.0`
CONTROLLERS = ("virtio-scsi-pci", "virtio-serial-pci", "qemu-xhci", "nec-usb-xhci")


class _Part(BaseModel):
    # strict: a template that says "4" where a number belongs is told so, not helped in silence
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Device(_Part):
    """A device as `-device` and `device_add` take it."""

    driver: Name
    id: Id
    bus: str | None = None
    addr: str | None = Field(default=None, pattern=ADDR_PATTERN)
    properties: dict[str, Property] = Field(default_factory=dict)

    @field_validator("properties")
    @classmethod
    def _place_is_not_a_property(cls, value: dict[str, Property]) -> dict[str, Property]:
        for key in ("driver", "id", "bus", "addr"):
            if key in value:
                raise ValueError(f"{key} belongs beside properties, not inside it")
        return value

    def to_qmp(self) -> dict[str, Property]:
        """Return the one dict that feeds both `-device '{json}'` and `device_add`."""
        place = {"bus": self.bus, "addr": self.addr}
        given = {key: value for key, value in place.items() if value is not None}
        return {"driver": self.driver, "id": self.id, **given, **self.properties}


class Disk(_Part):
    """A raw disk image, made fresh for the machine unless `path` names one; `id` is its block node name."""

    id: Id
    size_mib: int = Field(default=16, ge=1, le=65536)
    path: str | None = Field(default=None, description="an existing raw image, opened read-write")


class Network(_Part):
    """A network backend that gives carrier and reaches no host."""

    id: Id
    backend: Literal["user", "hub"] = Field(
        default="user",
        description="user: a gateway inside QEMU answers at 10.0.2.2; hub: only the machine's other NICs are there",
    )


class Global(_Part):
    """A `-global driver.property=value`."""

    driver: Name
    property: Name
    value: Property


class Slot(_Part):
    """A place where a scenario may plug something while the machine runs."""

    bus: str
    addr: str | None = Field(default=None, pattern=ADDR_PATTERN)


class MachineSpec(_Part):
    """A whole machine."""

    machine_type: Name
    options: dict[str, Property] = Field(default_factory=dict, description="further -machine options")
    cpu: Annotated[str, StringConstraints(pattern=r"^[^\s]+$")] = "auto"
    cpus: int = Field(default=1, ge=1, le=255)
    memory_mib: int = Field(default=512, ge=64, le=1 << 20)
    globals: list[Global] = Field(default_factory=list)
    disks: list[Disk] = Field(default_factory=list)
    networks: list[Network] = Field(default_factory=list)
    channels: list[Id] = Field(
        default_factory=list, description="byte channels to the test bed, each a chardev for a device's `chardev`"
    )
    start: KernelStart = Field(
        default="auto",
        description="how the kernel is started; auto: by its PVH entry, unless something needs a bzImage",
    )
    firmware: FirmwareKind = Field(default="seabios", description="ovmf: UEFI, which starts a bzImage by its EFI stub")
    devices: list[Device] = Field(default_factory=list)
    slots: list[Slot] = Field(default_factory=list)

    @field_validator("cpu")
    @classmethod
    def _no_empty_flag(cls, value: str) -> str:
        if ",," in value or value.startswith(",") or value.endswith(","):
            raise ValueError("a CPU model and its flags are separated by single commas")
        return value

    @property
    def root_bus(self) -> str:
        """Return the name of the bus every machine of this type begins with."""
        return "pcie.0" if re.match(r"(pc-)?q35", self.machine_type) else "pci.0"

    @property
    def buses(self) -> list[str]:
        """Return every bus a device can name."""
        own = (device.id for device in self.devices if device.driver in BUS_DRIVERS)
        return [self.root_bus, *own, *(f"{device.id}.0" for device in self.devices_of(*CONTROLLERS))]

    def device(self, device_id: str) -> Device:
        """Return the device with this id; raise KeyError if there is none."""
        for device in self.devices:
            if device.id == device_id:
                return device
        raise KeyError(device_id)

    def devices_of(self, *drivers: str) -> list[Device]:
        """Return the devices of these drivers, in the order they are given to QEMU."""
        return [device for device in self.devices if device.driver in drivers]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> MachineSpec:
        for kind in ("devices", "disks", "networks"):
            seen: set[str] = set()
            for index, part in enumerate(getattr(self, kind)):
                if part.id in seen:
                    raise _mistake((kind, index, "id"), f"{part.id!r} is used twice", part.id)
                seen.add(part.id)
        return self

    @model_validator(mode="after")
    def _buses_exist(self) -> MachineSpec:
        for path, part in self._parts_in_places():
            if part.bus is not None and part.bus not in self.buses:
                words = f"there is no bus {part.bus!r}; there are: {', '.join(self.buses)}"
                raise _mistake((*path, "bus"), words, part.bus)
        return self

    @model_validator(mode="after")
    def _places_are_free(self) -> MachineSpec:
        taken: dict[tuple[str, str], str] = {}
        for path, part in self._parts_in_places():
            place = self._place(part)
            if place is None:
                continue
            if place in taken:
                words = f"{place[0]} slot {place[1]} is occupied by {taken[place]}"
                raise _mistake((*path, "bus"), words, part.bus)
            taken[place] = part.id if isinstance(part, Device) else ".".join(map(str, path))
        return self

    def _parts_in_places(self) -> list[tuple[tuple[str, int], Device | Slot]]:
        """Return every part that may name a bus, with its path."""
        return [
            *((("devices", index), device) for index, device in enumerate(self.devices)),
            *((("slots", index), slot) for index, slot in enumerate(self.slots)),
        ]

    def _place(self, part: Device | Slot) -> tuple[str, str] | None:
        """Return bus and slot.function, or None where QEMU chooses the slot itself."""
        if part.bus is None:
            return None
        single = any(dev.id == part.bus and dev.driver in SINGLE_SLOT_BUSES for dev in self.devices)
        if part.addr is None:
            return (part.bus, "0.0") if single else None
        slot, _, function = part.addr.partition(".")
        return part.bus, f"{int(slot, 16):x}.{function or '0'}"

    @model_validator(mode="after")
    def _backends_exist(self) -> MachineSpec:
        backends = {
            "drive": [disk.id for disk in self.disks],
            "netdev": [network.id for network in self.networks],
            "chardev": self.channels,
        }
        for index, device in enumerate(self.devices):
            for key, names in backends.items():
                wanted = device.properties.get(key)
                if wanted is not None and wanted not in names:
                    there = ", ".join(names) or "none"
                    words = f"there is no {wanted!r}; there are: {there}"
                    raise _mistake(("devices", index, "properties", key), words, wanted)
        return self


def _mistake(path: tuple[str | int, ...], words: str, got: Any) -> ValidationError:
    """Build the error of one node that does not fit the others; its path leads the YAML reader to its line."""
    # the words are text, not a format: braces in them are no fields
    kind = PydanticCustomError("machine_spec", "{words}", {"words": words})
    return ValidationError.from_exception_data("MachineSpec", [InitErrorDetails(type=kind, loc=path, input=got)])
