"""From a MachineSpec to QEMU's arguments: each piece parses back to what it was made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.host.accel import Accel
from testbed.host.containment import SANDBOX
from testbed.host.firmware import Firmware
from testbed.machine.argv import Boot, Channels, blockdev, disk_path, keyvals, netdev, qemu_argv, typed
from testbed.machine.launch import check_spec
from testbed.model.errors import InputError, LackingError
from testbed.model.spec import Device, Disk, MachineSpec, Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.host.qemu import Qemu

FOLDER = Path("/runs/one, two")
TCG = Accel(name="tcg", reason="test")
BOOT = Boot(
    kernel=Path("/images/vm linux"), initramfs=Path("/images/initramfs"), cmdline="console=ttyS0 a='b', \"c d\""
)
CHANNELS = Channels(qmp="/run/t/1.qmp", console="/run/t/2.console", shell="/run/t/3.shell")


def argv(
    qemu: Qemu, *, accel: Accel = TCG, boot: Boot = BOOT, channels: Channels = CHANNELS, **parts: Any
) -> list[str]:
    spec = MachineSpec.model_validate({"machine_type": "q35", **parts})
    return qemu_argv(spec=spec, boot=boot, channels=channels, qemu=qemu, accel=accel, folder=FOLDER)


def values(words: list[str], option: str) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == option]


def split_keyvals(text: str) -> list[str]:
    """Split as QEMU does (util/keyval.c): a doubled comma is a comma."""
    return [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]


def test_the_binary_comes_first_and_the_guest_does_not_run_yet(paper_qemu: Callable[..., Qemu]) -> None:
    words = argv(paper_qemu(path="/opt/q"))
    assert words[0] == "/opt/q"
    assert "-S" in words


@pytest.mark.parametrize("sandbox", [True, False])
def test_seccomp_is_asked_for_only_where_the_binary_has_it(paper_qemu: Callable[..., Qemu], sandbox: bool) -> None:
    assert values(argv(paper_qemu(sandbox=sandbox)), "-sandbox") == ([SANDBOX] if sandbox else [])


def test_nothing_is_added_behind_the_templates_back(paper_qemu: Callable[..., Qemu]) -> None:
    words = argv(paper_qemu())
    assert "-nodefaults" in words
    assert "-no-user-config" in words
    assert [values(words, option) for option in ("-device", "-blockdev", "-netdev", "-global")] == [[], [], [], []]


def test_the_size_of_the_machine(paper_qemu: Callable[..., Qemu]) -> None:
    words = argv(paper_qemu(), cpus=3, memory_mib=768, machine_type="pc")
    assert [values(words, option) for option in ("-smp", "-m", "-machine")] == [["3"], ["768"], ["pc"]]


@pytest.mark.parametrize(
    ("accel", "asked", "cpu"),
    [("tcg", "auto", "qemu64"), ("kvm", "auto", "host"), ("tcg", "max,-avx", "max,-avx"), ("kvm", "qemu64", "qemu64")],
)
def test_the_cpu_fits_the_accelerator(paper_qemu: Callable[..., Qemu], accel: str, asked: str, cpu: str) -> None:
    words = argv(paper_qemu(), accel=Accel(name=accel, reason="test"), cpu=asked)
    assert values(words, "-cpu") == [cpu]
    assert values(words, "-accel") == [accel]


def test_kernel_initramfs_and_command_line_are_handed_over_verbatim(paper_qemu: Callable[..., Qemu]) -> None:
    words = argv(paper_qemu())
    assert values(words, "-kernel") == [str(BOOT.kernel)]
    assert values(words, "-initrd") == [str(BOOT.initramfs)]
    assert values(words, "-append") == [BOOT.cmdline]


def test_a_pvh_kernel_and_a_bzimage_are_given_the_same_way(paper_qemu: Callable[..., Qemu]) -> None:
    bzimage = Boot(kernel=Path("/images/bzimage"), initramfs=BOOT.initramfs, cmdline=BOOT.cmdline)
    pvh, other = argv(paper_qemu()), argv(paper_qemu(), boot=bzimage)
    assert [pair for pair in zip(pvh, other, strict=True) if pair[0] != pair[1]] == [
        (str(BOOT.kernel), "/images/bzimage")
    ]


def test_globals_are_words_as_qemu_takes_them(paper_qemu: Callable[..., Qemu]) -> None:
    given_globals = [
        {"driver": "PIIX4_PM", "property": "acpi-pci-hotplug-with-bridge-support", "value": False},
        {"driver": "pcie-root-port", "property": "x-speed", "value": 16},
        {"driver": "e1000", "property": "mac", "value": "on"},
    ]
    assert values(argv(paper_qemu(), globals=given_globals), "-global") == [
        "PIIX4_PM.acpi-pci-hotplug-with-bridge-support=off",
        "pcie-root-port.x-speed=16",
        "e1000.mac=on",
    ]


def test_what_a_qemu_does_without_a_property_is_not_said(paper_qemu: Callable[..., Qemu]) -> None:
    """As in 5.2, which has native hot-plug below root ports and no switch for it."""
    native = {"driver": "ICH9-LPC", "property": "acpi-pci-hotplug-with-bridge-support", "value": False}
    assert values(argv(paper_qemu(), globals=[native]), "-global") == []
    spec = MachineSpec.model_validate({"machine_type": "q35", "globals": [native]})
    check_spec(spec, paper_qemu())
    acpi = MachineSpec.model_validate({"machine_type": "q35", "globals": [{**native, "value": "on"}]})
    with pytest.raises(LackingError, match="ICH9-LPC: property 'acpi-pci-hotplug-with-bridge-support'"):
        check_spec(acpi, paper_qemu())


def test_a_qemu_without_json_for_devices_gets_the_same_as_words(paper_qemu: Callable[..., Qemu]) -> None:
    devices = [
        {"driver": "pcie-root-port", "id": "rp1", "bus": "pcie.0", "addr": "0x2", "properties": {"hotplug": "off"}},
        {"driver": "virtio-blk-pci", "id": "dev1", "bus": "rp1", "properties": {"drive": "disk1", "serial": "a,b"}},
    ]
    words = argv(paper_qemu(json_devices=False), disks=[{"id": "disk1"}], devices=devices)
    assert [split_keyvals(text) for text in values(words, "-device")] == [
        ["pcie-root-port", "id=rp1", "bus=pcie.0", "addr=0x2", "hotplug=off"],
        ["virtio-blk-pci", "id=dev1", "bus=rp1", "drive=disk1", "serial=a,b"],
    ]


def test_machine_options_follow_the_type_with_commas_doubled(paper_qemu: Callable[..., Qemu]) -> None:
    words = argv(paper_qemu(), options={"sata": False, "smm": "auto", "oem": "a,b"})
    assert values(words, "-machine") == ["q35,sata=off,smm=auto,oem=a,,b"]


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(st.characters(exclude_characters="\0"))))
def test_what_keyvals_joins_qemu_splits_again(options: dict[str, str]) -> None:
    assert split_keyvals(keyvals("head", options)) == ["head", *(f"{key}={value}" for key, value in options.items())]


def test_the_first_serial_line_is_the_console_and_the_second_the_shell(paper_qemu: Callable[..., Qemu]) -> None:
    words = argv(paper_qemu())
    assert values(words, "-serial") == ["chardev:console", "chardev:shell"]
    assert values(words, "-mon") == ["chardev=qmp,mode=control"]


def test_channels_may_lie_in_a_folder_with_a_comma(paper_qemu: Callable[..., Qemu]) -> None:
    channels = Channels(qmp="/a,b/1", console="/a,b/2", shell="/a,b/3")
    assert [split_keyvals(text) for text in values(argv(paper_qemu(), channels=channels), "-chardev")] == [
        ["socket", f"id={name}", f"path=/a,b/{n}"] for n, name in enumerate(("qmp", "console", "shell"), 1)
    ]


def test_devices_come_in_the_order_of_the_spec_as_json(paper_qemu: Callable[..., Qemu]) -> None:
    words = argv(
        paper_qemu(),
        disks=[{"id": "disk1"}],
        devices=[
            {"driver": "pcie-root-port", "id": "rp1", "bus": "pcie.0", "addr": "0x2", "properties": {"chassis": 1}},
            {"driver": "virtio-blk-pci", "id": "dev1", "bus": "rp1", "properties": {"drive": "disk1", "serial": "a,b"}},
        ],
    )
    assert [json.loads(text) for text in values(words, "-device")] == [
        {"driver": "pcie-root-port", "id": "rp1", "bus": "pcie.0", "addr": "0x2", "chassis": 1},
        {"driver": "virtio-blk-pci", "id": "dev1", "bus": "rp1", "drive": "disk1", "serial": "a,b"},
    ]


def test_backends_come_before_the_devices_that_use_them(paper_qemu: Callable[..., Qemu]) -> None:
    words = argv(
        paper_qemu(),
        disks=[{"id": "disk1"}],
        networks=[{"id": "net1"}],
        devices=[
            {"driver": "virtio-blk-pci", "id": "a", "properties": {"drive": "disk1"}},
            {"driver": "virtio-net-pci", "id": "b", "properties": {"netdev": "net1"}},
        ],
    )
    assert max(words.index("-blockdev"), words.index("-netdev")) < words.index("-device")
    assert [json.loads(text) for text in values(words, "-blockdev")] == [blockdev(Disk(id="disk1"), FOLDER)]
    assert values(words, "-netdev") == ["user,id=net1,restrict=on,ipv6=off"]


def test_a_disk_of_the_run_lies_in_its_folder_and_skips_host_flushes() -> None:
    node = blockdev(Disk(id="disk1"), FOLDER)
    assert node["node-name"] == "disk1"
    assert node["file"] == {"driver": "file", "filename": str(FOLDER / "disk1.raw")}
    assert node["cache"] == {"no-flush": True}


def test_a_disk_of_the_users_is_flushed_and_may_lie_elsewhere() -> None:
    node = blockdev(Disk(id="disk1", path="/data/image.raw"), FOLDER)
    assert node["file"]["filename"] == "/data/image.raw"
    assert "cache" not in node
    assert disk_path(Disk(id="disk1", path="image.raw"), FOLDER) == FOLDER / "image.raw"


def test_a_network_reaches_no_host() -> None:
    gateway = netdev(Network(id="net1"))
    assert (gateway["type"], gateway["restrict"]) == ("user", True)
    assert netdev(Network(id="net1", backend="hub")) == {"type": "hubport", "id": "net1", "hubid": 0}


@pytest.mark.parametrize(
    ("driver", "name", "value", "wanted"),
    [
        ("pcie-root-port", "hotplug", False, False),
        ("pcie-root-port", "hotplug", "off", False),
        ("pcie-root-port", "hotplug", "On", True),
        ("pcie-root-port", "chassis", "0x10", 16),
        ("pcie-root-port", "chassis", 3, 3),
        ("virtio-blk-pci", "disable-legacy", False, "off"),
        ("virtio-blk-pci", "disable-legacy", True, "on"),
        ("virtio-blk-pci", "disable-legacy", "auto", "auto"),
        ("virtio-blk-pci", "serial", 5, "5"),
        ("virtio-blk-pci", "serial", "010", "010"),
        ("virtio-blk-pci", "bootindex", "-1", -1),
        ("virtio-blk-pci", "discard_granularity", "4096", 4096),
        # what has no such type is left for QEMU to refuse in its own words
        ("virtio-blk-pci", "bootindex", "first", "first"),
        ("pcie-root-port", "hotplug", "maybe", "maybe"),
    ],
)
def test_a_property_gets_the_type_qemu_wants(
    paper_qemu: Callable[..., Qemu], driver: str, name: str, value: Any, wanted: Any
) -> None:
    got = typed(Device(driver=driver, id="d", properties={name: value}), paper_qemu())[name]
    assert got == wanted
    assert type(got) is type(wanted)


def test_an_unknown_device_or_property_is_refused_with_the_closest(paper_qemu: Callable[..., Qemu]) -> None:
    with pytest.raises(InputError, match="'virtio-blk-pic' does not exist") as caught:
        typed(Device(driver="virtio-blk-pic", id="d"), paper_qemu())
    assert "did you mean virtio-blk-pci?" in (caught.value.hint or "")
    with pytest.raises(InputError, match="device pcie-root-port: property 'chasis' does not exist") as caught:
        typed(Device(driver="pcie-root-port", id="d", properties={"chasis": 1}), paper_qemu())
    assert "did you mean chassis?" in (caught.value.hint or "")


def test_uefi_firmware_is_flash_of_which_the_variables_are_the_runs_own(paper_qemu: Callable[..., Qemu]) -> None:
    firmware = Firmware(code=Path("/fw/code,1.fd"), variables=Path("/fw/variables.fd"), format="qcow2")
    words = argv(paper_qemu(), boot=replace(BOOT, firmware=firmware), options={"kernel-irqchip": "split"})
    machine = split_keyvals(values(words, "-machine")[0])
    assert machine == ["q35", "kernel-irqchip=split", "pflash0=firmware-code", "pflash1=firmware-variables"]
    code, variables = map(json.loads, values(words, "-blockdev"))
    assert (code["read-only"], code["file"]["filename"], code["driver"]) == (True, "/fw/code,1.fd", "qcow2")
    assert (variables["read-only"], variables["file"]["filename"]) == (False, f"{FOLDER}/firmware-variables")


def test_the_log_of_the_firmware_goes_to_a_file_which_never_stops_it(paper_qemu: Callable[..., Qemu]) -> None:
    firmware = Firmware(code=Path("/fw/code.fd"), variables=Path("/fw/variables.fd"))
    words = argv(paper_qemu(), boot=replace(BOOT, firmware=firmware))
    log = next(word for word in values(words, "-chardev") if "id=firmware-log" in word)
    assert split_keyvals(log) == ["file", "id=firmware-log", f"path={FOLDER}/firmware.log"]
    port = json.loads(values(words, "-device")[-1])
    assert (port["driver"], port["iobase"], port["chardev"]) == ("isa-debugcon", 0x402, "firmware-log")
