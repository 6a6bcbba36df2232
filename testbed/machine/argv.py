"""From a MachineSpec to QEMU's argument vector, in small pure pieces.

`-blockdev` takes JSON, and so does `-device` since QEMU 6.2; before, and for all others, it is `key=value,…`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from testbed.host.containment import SANDBOX
from testbed.machine.system_disk import system_device, system_options
from testbed.model.value_text import SWITCHES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import PurePath

    from testbed.host.accel import Accel
    from testbed.host.firmware import Firmware
    from testbed.host.qemu import Qemu
    from testbed.image.disk.opened import OpenDisk
    from testbed.machine.attach import Attach
    from testbed.machine.system_disk import SystemDisk
    from testbed.model.login import Login
    from testbed.model.spec import Device, Disk, MachineSpec, Network, Property


@dataclass(frozen=True, kw_only=True)
class Boot:
    """What the machine starts: a kernel (bzImage, or an ELF vmlinux with a PVH entry), an initramfs, a command line.

    Without a kernel its firmware starts the loader of the system's disk, and the command line is for that.
    """

    kernel: PurePath | None
    initramfs: PurePath | None
    cmdline: str
    firmware: Firmware | None = None  #: UEFI; None: the machine type's own SeaBIOS
    system: SystemDisk | None = None  #: the disk whose user space runs; None: the test bed's own does
    login: Login | None = None  #: who logs in on the console

    @property
    def by_loader(self) -> bool:
        """Return whether the disk's own loader starts a kernel."""
        return self.kernel is None


#: what every machine has
OWN_CHANNELS = ("qmp", "console", "shell")


@dataclass(frozen=True, kw_only=True)
class Channels:
    """The sockets QEMU connects to."""

    qmp: str
    console: str
    shell: str
    others: Mapping[str, str] = field(default_factory=dict)  #: of the spec's channels, by their id

    @classmethod
    def called(cls, spec: MachineSpec, pattern: str) -> Channels:
        """Return sockets whose names are made from the channels' with a pattern such as `{}.sock`."""
        others = {name: pattern.format(name) for name in spec.channels}
        own = {name: pattern.format(name) for name in OWN_CHANNELS}
        return cls(**own, others=others)


def qemu_argv(
    *,
    spec: MachineSpec,
    boot: Boot,
    channels: Channels,
    qemu: Qemu,
    accel: Accel,
    folder: PurePath,
    attach: Attach | None = None,
    system: OpenDisk | None = None,
    warped: bool = False,
    incoming: bool = False,
) -> list[str]:
    """Return the whole command; `folder` holds the machine's disk images, `system` is that of `boot`, open."""
    return [
        *qemu.command,
        *("-name", "testbed"),  # what a process list shows
        # only what the description has: no default NIC, VGA or serial port, nothing from /etc/qemu
        *("-nodefaults", "-no-user-config"),
        *("-display", "none"),
        *(("-sandbox", SANDBOX) if qemu.sandbox else ()),
        *("-machine", keyvals(spec.machine_type, {**spec.options, **_machine_options(boot)})),
        *("-accel", accel.name),
        *(("-icount", WARP) if warped else ()),
        # a saved guest: QMP says later where its state is
        *(("-incoming", "defer") if incoming else ()),
        *("-cpu", accel.cpu(spec.cpu)),
        *("-smp", str(spec.cpus)),
        *("-m", str(spec.memory_mib)),
        *_globals(spec, qemu),
        *_channels(channels),
        *(_attach(attach) if attach else ()),
        # the first instruction waits until the test bed has console, shell and QMP
        *("-S",),
        # a guest that resets or powers off stays there to be looked at
        *("-no-reboot", "-no-shutdown"),
        *(_firmware(boot.firmware, folder, qemu) if boot.firmware else ()),
        *_kernel(boot),
        *_backends(spec, folder),
        *(system_options(system, folder) if system else ()),
        *(part for device in _devices(spec, boot, system) for part in _device(typed(device, qemu), qemu)),
    ]


def _devices(spec: MachineSpec, boot: Boot, system: OpenDisk | None) -> list[Device]:
    return [*spec.devices, *([system_device(spec, first=boot.by_loader)] if system else [])]


def _machine_options(boot: Boot) -> dict[str, Property]:
    if boot.firmware:
        return _FLASH
    # SeaBIOS, and a loader that prints by its means, speak on ttyS0 (fw_cfg's "nographic")
    return {"graphics": False} if boot.by_loader else {}


#: Guest time is the count of its instructions (4 ns each), and an idle guest's next timer comes at once. With shift=2 a
#: boot is slower than in real time (docs/speed.md has what was tried), and a 5 s wait takes a fraction of a second.
WARP = "shift=2,sleep=off"


def typed(device: Device, qemu: Qemu) -> dict[str, Property]:
    """Return `device.to_qmp()` with each property in the type this QEMU wants; raise InputError for an unknown one.

    A property that it lacks is left out where its value is what this QEMU does anyway.
    """
    qemu.check_driver(device.driver)
    said = {key: value for key, value in device.properties.items() if not goes_without(device.driver, key, value, qemu)}
    own = {key: qemu.typed(device.driver, key, value) for key, value in said.items()}
    place = {key: value for key, value in device.to_qmp().items() if key not in device.properties}
    return {**place, **own}


#: what a QEMU does that lacks a property
_WITHOUT: Mapping[tuple[str, str], Property] = {
    # below root ports there was no ACPI hot-plug before the switch for it came (6.1, 17858a169508)
    ("ICH9-LPC", "acpi-pci-hotplug-with-bridge-support"): False,
}


def goes_without(driver: str, name: str, value: Property, qemu: Qemu) -> bool:
    """Return whether this QEMU lacks a property and does what the value says all the same."""
    wanted = SWITCHES.get(str(value).lower(), value)
    return _WITHOUT.get((driver, name)) == wanted and name not in qemu.properties(driver)


def _device(arguments: Mapping[str, Property], qemu: Qemu) -> tuple[str, str]:
    """Return the option that adds a device."""
    if qemu.json_devices:
        return "-device", json.dumps(arguments)
    others = {key: value for key, value in arguments.items() if key != "driver"}
    return "-device", keyvals(str(arguments["driver"]), others)


def blockdev(disk: Disk, folder: PurePath) -> dict[str, Any]:
    """Return the block node of a disk."""
    return {
        "driver": "raw",
        "node-name": disk.id,
        # a disk made for one run need not survive the host: a guest's flush does not become the host's
        **({} if disk.path else {"cache": {"no-flush": True}}),
        "file": {"driver": "file", "filename": str(disk_path(disk, folder))},
    }


def disk_path(disk: Disk, folder: PurePath) -> PurePath:
    """Return where a disk's image is."""
    return folder / (disk.path or f"{disk.id}.raw")


def netdev(network: Network) -> dict[str, Any]:
    """Return the backend of a network: QEMU's own gateway, shut off from the host, or the machine's one hub."""
    if network.backend == "hub":
        return {"type": "hubport", "id": network.id, "hubid": 0}
    return {"type": "user", "id": network.id, "restrict": True, "ipv6": False}


def _netdev_words(network: Network) -> str:
    options = netdev(network)
    return keyvals(options.pop("type"), options)


def keyvals(head: str, options: Mapping[str, Property]) -> str:
    """Return `head,key=value,…` as `-machine` takes it, commas in values doubled."""
    pairs = (f"{key}={_word(value).replace(',', ',,')}" for key, value in options.items())
    return ",".join((head, *pairs))


def _word(value: Property) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _globals(spec: MachineSpec, qemu: Qemu) -> list[str]:
    said = (each for each in spec.globals if not goes_without(each.driver, each.property, each.value, qemu))
    return [part for each in said for part in ("-global", f"{each.driver}.{each.property}={_word(each.value)}")]


def _channels(channels: Channels) -> list[str]:
    return [
        *_channel("qmp", channels.qmp),
        *("-mon", "chardev=qmp,mode=control"),
        *_channel("console", channels.console),
        *("-serial", "chardev:console"),
        *_channel("shell", channels.shell),
        *("-serial", "chardev:shell"),
        *(part for name, path in channels.others.items() for part in _channel(name, path)),
    ]


def _channel(name: str, path: str) -> tuple[str, str]:
    return "-chardev", keyvals("socket", {"id": name, "path": path})


def _attach(attach: Attach) -> list[str]:
    """Return what QEMU serves for people: a monitor of their own, and the gdb stub."""
    served: dict[str, Property] = {"server": True, "wait": False}
    return [
        *("-chardev", keyvals("socket", {"id": "attach-qmp", "path": attach.qmp, **served})),
        *("-mon", "chardev=attach-qmp,mode=control"),
        *("-chardev", keyvals("socket", {"id": "attach-gdb", "path": attach.gdb, **served})),
        *("-gdb", "chardev:attach-gdb"),
    ]


#: the block nodes of the flash: the firmware's code, and its variables
_FLASH: dict[str, Property] = {"pflash0": "firmware-code", "pflash1": "firmware-variables"}
#: in a machine's folder: its own variables, and what its firmware says of itself
VARIABLES, FIRMWARE_LOG = "firmware-variables", "firmware.log"
#: the I/O port to which OVMF writes its debug log (edk2, OvmfPkg/README)
_DEBUG_PORT = 0x402


def _firmware(firmware: Firmware, folder: PurePath, qemu: Qemu) -> list[str]:
    """Return the flash of a UEFI firmware, and a file for its log: no socket, since one that nobody reads stops it."""
    log = {"id": "firmware-log", "path": str(folder / FIRMWARE_LOG)}
    return [
        *("-blockdev", json.dumps(_flash("firmware-code", firmware, str(firmware.code), read_only=True))),
        *("-blockdev", json.dumps(_flash("firmware-variables", firmware, str(folder / VARIABLES), read_only=False))),
        *("-chardev", keyvals("file", log)),
        *_device({"driver": "isa-debugcon", "iobase": _DEBUG_PORT, "chardev": "firmware-log"}, qemu),
    ]


def _flash(name: str, firmware: Firmware, path: str, *, read_only: bool) -> dict[str, Any]:
    file = {"driver": "file", "filename": path}
    return {"driver": firmware.format, "node-name": name, "read-only": read_only, "file": file}


def _kernel(boot: Boot) -> list[str]:
    if boot.by_loader:
        return []
    return ["-kernel", str(boot.kernel), "-initrd", str(boot.initramfs), "-append", boot.cmdline]


def _backends(spec: MachineSpec, folder: PurePath) -> list[str]:
    disks = [part for disk in spec.disks for part in ("-blockdev", json.dumps(blockdev(disk, folder)))]
    networks = [part for network in spec.networks for part in ("-netdev", _netdev_words(network))]
    return [*disks, *networks]
