"""From a libvirt domain to template parameters: what is taken over, what is said to be lost, and bad input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from testbed.machine.libvirt import Recreation, recreate
from testbed.machine.libvirt_domain import LibvirtDomain
from testbed.machine.machine_type import nearest, upstream
from testbed.machine.template import load_template
from testbed.model.errors import InputError
from testbed.model.xml_reader import parse_xml

Q35 = Path(__file__).parent.parent / "data" / "libvirt" / "q35.xml"

HEAD = "<domain type='kvm'>\n<memory>1048576</memory>\n<vcpu>1</vcpu>\n"
ROOT_PORT = (
    "<controller type='pci' index='{n}' model='pcie-root-port'>{more}<address type='pci' bus='{bus}' slot='{n}'/>"
)
DISK = (
    "<disk type='file' device='disk'><target dev='vda' bus='virtio'/>"
    "<address type='pci' bus='{bus}' slot='{slot}'/></disk>"
)


def made(devices: str, *, machine: str = "q35", head: str = HEAD, more: str = "") -> Recreation:
    os = f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os><features><acpi/></features>"
    text = f"{head}{os}\n<devices>\n{devices}\n</devices>{more}</domain>"
    return recreate(LibvirtDomain(parse_xml(text.encode(), source="d.xml"), "d.xml"))


def port(n: int, *, bus: int = 0, more: str = "") -> str:
    return ROOT_PORT.format(n=n, bus=bus, more=more) + "</controller>\n"


def controller(n: int, model: str, bus: int, slot: int = 0) -> str:
    where = f"<address type='pci' bus='{bus}' slot='{slot}'/>"
    return f"<controller type='pci' index='{n}' model='{model}'>{where}</controller>\n"


def lost(recreation: Recreation) -> dict[int, str]:
    return {remark.line: remark.words for remark in recreation.left_out}


def test_a_whole_domain_is_taken_over() -> None:
    recreation = recreate(LibvirtDomain.read(Q35)[0])
    assert recreation.template == "q35"
    assert recreation.parameters == {
        "type": "pc-q35-7.2",
        "memory": 2048,
        "cpus": 4,
        "cpu": "Skylake-Client,hle=off,pcid=on",
        "topology": "ports",
        "devices": ["e1000e", "xhci", "virtio-blk", "virtio-scsi"],
        "ports": 5,
        "ports_per_slot": 5,
        "hotplug": "native",
        "firmware": "ovmf",
    }


def test_each_part_of_a_domain_is_either_taken_over_or_named_by_its_line() -> None:
    recreation = recreate(LibvirtDomain.read(Q35)[0])
    lines = Q35.read_text().splitlines()
    named = {remark.line for remark in (*recreation.kept, *recreation.left_out)}
    for number, text in enumerate(lines, 1):
        if any(
            f"<{tag}" in text for tag in ("disk", "interface", "hostdev", "graphics", "loader", "cputune", "topology")
        ):
            assert number in named, text
    assert any("rtl8139" in remark.words for remark in recreation.left_out)
    assert any("hotplug='off'" in remark.words for remark in recreation.left_out)


UEFI = [
    ("<os firmware='efi'>", "", None),
    ("<os>", "<loader readonly='yes' type='pflash'>/x/OVMF_CODE_4M.fd</loader><nvram>/x/vars</nvram>", None),
    ("<os>", "<loader readonly='yes' secure='yes' type='pflash'>/x/OVMF_CODE_4M.fd</loader>", "no Secure Boot"),
]


@pytest.mark.parametrize(("os", "loader", "left_out"), UEFI)
def test_a_domain_that_starts_by_uefi_gets_ovmf_without_secure_boot(os: str, loader: str, left_out: str | None) -> None:
    text = f"<domain>{os}<type machine='q35'>hvm</type>{loader}</os><features><acpi/></features></domain>"
    recreation = recreate(LibvirtDomain(parse_xml(text.encode(), source="d.xml"), "d.xml"))
    assert recreation.parameters["firmware"] == "ovmf"
    assert "-p firmware=ovmf" in " ".join(recreation.options())
    assert any("firmware=ovmf" in remark.words for remark in recreation.kept)
    about = [remark.words for remark in recreation.left_out if "loader" in remark.words or "nvram" in remark.words]
    assert len(about) == (left_out is not None)
    assert all(left_out in words for words in about if left_out)


def test_a_loader_that_is_no_flash_is_left_out() -> None:
    loader = "<loader type='rom'>/usr/share/seabios/bios.bin</loader>"
    text = f"<domain><os><type machine='q35'>hvm</type>{loader}</os><features><acpi/></features></domain>"
    recreation = recreate(LibvirtDomain(parse_xml(text.encode(), source="d.xml"), "d.xml"))
    assert "firmware" not in recreation.parameters
    assert any("<loader>" in remark.words for remark in recreation.left_out)


def test_the_options_are_those_that_make_the_same_machine() -> None:
    recreation = recreate(LibvirtDomain.read(Q35)[0])
    words, template = recreation.options(), load_template("q35")
    texts = [word.partition("=") for word in words if word != "-p"]
    given = {name: template.parse(name, text) for name, _, text in texts}
    assert template.spec(given) == template.spec(recreation.parameters)


@pytest.mark.parametrize(
    ("memory", "mib"),
    [
        ("<memory>2097152</memory>", 2048),
        ("<memory unit='KiB'>2097152</memory>", 2048),
        ("<memory unit='MiB'>300</memory>", 300),
        ("<memory unit='G'>3</memory>", 3072),
        ("<memory unit='bytes'>268435456</memory>", 256),
        ("", 512),
        ("<memory unit='KiB'>1024</memory>", 128),
        ("<memory unit='TiB'>1</memory>", 65536),
    ],
)
def test_memory_is_read_in_its_unit_and_kept_within_the_templates_bounds(memory: str, mib: int) -> None:
    recreation = made("", head=f"<domain>{memory}")
    assert load_template("q35").spec(recreation.parameters).memory_mib == mib
    assert any(words.startswith("memory is ") for words in lost(recreation).values()) is (mib in (128, 65536))


@pytest.mark.parametrize(
    ("devices", "wanted"),
    [
        (port(1) + port(2) + DISK.format(bus=2, slot=0), {"topology": "ports", "ports": 2}),
        (
            port(1)
            + controller(2, "pcie-switch-upstream-port", 1)
            + "".join(controller(n, "pcie-switch-downstream-port", 2, n) for n in range(3, 9))
            + DISK.format(bus=4, slot=0),
            {"topology": "switch", "depth": 1, "ports": 6},
        ),
        (
            port(1)
            + controller(2, "pcie-switch-upstream-port", 1)
            + controller(3, "pcie-switch-downstream-port", 2)
            + controller(4, "pcie-switch-upstream-port", 3)
            + controller(5, "pcie-switch-downstream-port", 4)
            + DISK.format(bus=5, slot=0),
            {"topology": "switch", "depth": 2, "ports": 1},
        ),
        (
            port(1) + controller(2, "pcie-to-pci-bridge", 1) + DISK.format(bus=2, slot=3),
            {"topology": "pcie-pci-bridge", "ports": 4},
        ),
        (
            port(1)
            + controller(2, "pcie-to-pci-bridge", 1)
            + controller(3, "pci-bridge", 2, 1)
            + controller(4, "pci-bridge", 3, 1)
            + DISK.format(bus=4, slot=3),
            {"topology": "pci-bridge", "depth": 2, "ports": 4},
        ),
        (
            controller(1, "pcie-expander-bus", 0, 5) + port(2, bus=1) + port(3, bus=1) + DISK.format(bus=3, slot=0),
            {"topology": "pxb", "ports": 2},
        ),
        (DISK.format(bus=0, slot=3), {"topology": "ports", "ports": 4}),
        # buses that name each other as their parent
        (controller(1, "pci-bridge", 2) + controller(2, "pci-bridge", 1) + DISK.format(bus=2, slot=1), {"depth": 2}),
    ],
)
def test_the_first_disk_decides_on_the_topology(devices: str, wanted: dict[str, object]) -> None:
    parameters = made(devices).parameters
    assert {name: parameters.get(name) for name in wanted} == wanted


def test_a_device_that_stands_elsewhere_is_moved_and_that_is_said() -> None:
    recreation = made(
        port(1) + DISK.format(bus=1, slot=0) + "\n<controller type='usb' model='qemu-xhci'>"
        "<address type='pci' bus='0' slot='9'/></controller>"
    )
    assert recreation.parameters["devices"] == ["xhci", "virtio-blk"]
    assert "; here it sits beside" in lost(recreation)[8]


def test_ports_without_hotplug_stay_so_if_all_are() -> None:
    off = "<target hotplug='off'/>"
    assert made(port(1, more=off) + port(2, more=off)).parameters["port_properties"] == {"hotplug": False}
    mixed = made(port(1, more=off) + port(2))
    assert "port_properties" not in mixed.parameters
    assert "not every port has it" in lost(mixed)[6]


@pytest.mark.parametrize(
    ("devices", "more", "wanted"),
    [
        (DISK.format(bus=0, slot=4), "", {"topology": "root", "devices": ["virtio-blk"]}),
        (
            controller(1, "pci-bridge", 0, 3) + DISK.format(bus=1, slot=4),
            "PIIX4_PM.acpi-pci-hotplug-with-bridge-support=off",
            {"topology": "pci-bridge", "depth": 1, "hotplug": "shpc"},
        ),
        ("", "PIIX4_PM.acpi-root-pci-hotplug=off", {"hotplug": "off"}),
        (
            "",
            "PIIX4_PM.acpi-pci-hotplug-with-bridge-support=off",
            {"topology": "root", "globals": {"PIIX4_PM.acpi-pci-hotplug-with-bridge-support": False}},
        ),
        ("", "virtio-blk-pci.vectors=3", {"globals": {"virtio-blk-pci.vectors": 3}}),
        ("", "driver=e1000,property=mac,value=x", {"topology": "root"}),
        (
            "<controller type='pci' index='0' model='pci-root'><target hotplug='off'/></controller>",
            "",
            {"hotplug": "off"},
        ),
    ],
)
def test_i440fx_is_taken_over_with_who_serves_its_slots(devices: str, more: str, wanted: dict[str, object]) -> None:
    arguments = f"<qemu:commandline><qemu:arg value='-global'/><qemu:arg value='{more}'/></qemu:commandline>"
    recreation = made(devices, machine="pc-i440fx-7.2", more=arguments if more else "")
    assert recreation.template == "i440fx"
    assert {name: recreation.parameters.get(name) for name in wanted} == wanted
    assert ("hotplug" in wanted) is ("hotplug" in recreation.parameters)


@pytest.mark.parametrize(
    ("name", "template", "stands_for"),
    [
        ("pc-q35-rhel9.2.0", "q35", "pc-q35-7.2"),
        ("pc-q35-rhel8.6.0", "q35", "pc-q35-6.2"),
        ("pc-q35-rhel9.3.0", "q35", "pc-q35-7.2"),  # between two: the nearest
        ("pc-i440fx-rhel7.6.0", "i440fx", "pc-i440fx-2.12"),
        ("pc-i440fx-cosmic", "i440fx", "pc-i440fx-2.12"),
        ("pc-q35-focal-hpb", "q35", "pc-q35-4.2"),
        ("ubuntu-q35-noble", "q35", "pc-q35-8.2"),
        ("pc-q35-9.2+pve1", "q35", "pc-q35-9.2"),
        ("pc-q35-vz7.12.0", "q35", "q35"),
        ("pc-i440fx-2.11", "i440fx", "pc-i440fx-2.11"),
        ("pc-1.3", "i440fx", "pc-1.3"),
        ("pc-q35-4.0.1", "q35", "pc-q35-4.0.1"),
        ("q35", "q35", "q35"),
        ("pc", "i440fx", "pc"),
    ],
)
def test_a_vendors_machine_type_is_the_nearest_upstream_one_and_both_are_named(
    name: str, template: str, stands_for: str
) -> None:
    recreation = made("", machine=name)
    assert (recreation.template, recreation.parameters["type"]) == (template, stands_for)
    told = [remark.words for remark in recreation.kept if name in remark.words and stands_for in remark.words]
    assert bool(told) is (name != stands_for)


@pytest.mark.parametrize(("root", "template"), [("pci-root", "i440fx"), ("pcie-root", "q35")])
def test_a_domain_that_leaves_the_type_open_has_the_one_that_libvirt_takes(root: str, template: str) -> None:
    devices = f"<devices><controller type='pci' model='{root}'/></devices>"
    text = f"<domain><os><type>hvm</type></os>{devices}</domain>"
    recreation = recreate(LibvirtDomain(parse_xml(text.encode(), source="d"), "d"))
    assert recreation.template == template
    assert any("no machine type" in remark.words for remark in recreation.kept)


def test_a_type_that_a_qemu_has_not_is_the_nearest_it_has() -> None:
    names = ("q35", "pc", "pc-q35-7.2", "pc-q35-7.1", "pc-q35-2.12", "pc-i440fx-7.2", "microvm")
    for wanted, found in (
        ("pc-q35-9.2", "pc-q35-7.2"),
        ("pc-q35-2.4", "pc-q35-2.12"),
        ("pc-i440fx-2.0", "pc-i440fx-7.2"),
    ):
        chipset = "q35" if "q35" in wanted else "i440fx"
        assert str(nearest(upstream(wanted, chipset), names)) == found
    assert str(nearest(upstream("pc-q35-9.2", "q35"), ())) == "q35"


def test_no_acpi_is_taken_over_for_it_decides_who_serves_the_slots() -> None:
    start = "<os><type machine='q35'>hvm</type></os>"
    for features, acpi in (
        ("", "off"),
        ("<features><apic/></features>", "off"),
        ("<features><acpi/></features>", "on"),
    ):
        root = parse_xml(f"<domain>{start}{features}</domain>".encode(), source="d")
        recreation = recreate(LibvirtDomain(root, "d"))
        spec = load_template("q35").spec(recreation.parameters)
        assert spec.options == ({"acpi": "off"} if acpi == "off" else {})
        assert any("acpi=off" in remark.words for remark in recreation.kept) is (acpi == "off")


def test_ports_without_a_number_are_numbered_as_libvirt_does() -> None:
    bare = "<controller type='pci' model='{}'/>\n"
    recreation = made(bare.format("pcie-root") + bare.format("pcie-root-port") * 14)
    assert recreation.parameters["ports"] == 14
    assert not recreation.left_out
    mixed = made("<controller type='pci' index='2' model='pcie-root-port'/>\n" + bare.format("pcie-root-port") * 2)
    assert sorted(set(mixed.controllers)) == [1, 2, 3]


def test_each_controller_is_taken_over_or_named_with_its_number() -> None:
    recreation = made(
        "<controller type='pci' index='0' model='pcie-root'/>\n"
        + port(1)
        + port(2)
        + port(3)
        + controller(4, "pcie-to-pci-bridge", 3)
        + controller(5, "pcie-expander-bus", 0, 5)
        + port(6, bus=5)
        + controller(7, "pcie-switch-upstream-port", 2)
        + controller(8, "pcie-switch-downstream-port", 7)
        + DISK.format(bus=1, slot=0)
    )
    words = [remark.words for remark in recreation.left_out]
    for index, model in (
        (4, "pcie-to-pci-bridge"),
        (5, "pcie-expander-bus"),
        (6, "pcie-root-port"),
        (7, "pcie-switch-upstream-port"),
        (8, "pcie-switch-downstream-port"),
    ):
        assert any(f"{model} {index}" in each for each in words), (index, words)
    assert any("pcie-root-port 1, 2, 3" in remark.words for remark in recreation.kept)


def test_what_qemu_does_not_know_of_libvirts_cpu_features_is_not_handed_on() -> None:
    cpu = (
        "<cpu mode='custom'><model>EPYC</model><feature name='cmt' policy='disable'/>"
        "<feature name='cmp_legacy' policy='disable'/></cpu>"
    )
    recreation = made("", more=cpu)
    assert recreation.parameters["cpu"] == "EPYC,cmp-legacy=off"
    assert any("cmt" in words for words in lost(recreation).values())


def test_a_command_line_given_to_libvirt_is_the_one_under_test() -> None:
    start = "<type machine='q35'>hvm</type><kernel>/k</kernel><cmdline>quiet  pcie_aspm=off</cmdline>"
    root = parse_xml(f"<domain><os>{start}</os></domain>".encode(), source="d")
    recreation = recreate(LibvirtDomain(root, "d"))
    assert recreation.options()[-2:] == ["--cmdline", "quiet  pcie_aspm=off"]
    without_kernel = start.replace("<kernel>/k</kernel>", "")
    alone = recreate(LibvirtDomain(parse_xml(f"<domain><os>{without_kernel}</os></domain>".encode(), source="d"), "d"))
    assert alone.cmdline == ""
    assert any("<cmdline>" in words for words in lost(alone).values())


def test_more_devices_than_there_is_room_for_are_left_out() -> None:
    recreation = made("\n".join(DISK.format(bus=n, slot=0) for n in range(30)))
    assert len(recreation.parameters["devices"]) == 28
    assert sum("there is room for 28" in words for words in lost(recreation).values()) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<network/>", "d.xml:1: is <network>, not a libvirt <domain>"),
        ("<domain/>", "d.xml:1: has no <os><type machine=…>"),
        (
            "<domain><os>\n<type arch='aarch64' machine='virt'>hvm</type></os></domain>",
            "d.xml:2: <type>: is for aarch64; the test bed has machines for x86_64 only",
        ),
        (
            "<domain><os>\n<type machine='microvm'>hvm</type></os></domain>",
            "d.xml:2: machine type 'microvm': there are templates for q35 and i440fx only",
        ),
        (
            "<domain><os><type machine='q35'/></os>\n<vcpu>four</vcpu></domain>",
            "d.xml:2: <vcpu>: 'four' is not a number",
        ),
        ("<domain><os><type machine='q35'/></os>\n<vcpu>-1</vcpu></domain>", "d.xml:2: <vcpu>: -1 is negative"),
        (
            "<domain><os><type machine='q35'/></os>\n<memory unit='stone'>4</memory></domain>",
            "d.xml:2: <memory>: unknown unit 'stone'",
        ),
        (
            "<domain><os><type machine='q35'/></os><devices>\n<controller type='pci' index='x'/></devices></domain>",
            "d.xml:2: <controller>: 'x' is not a number",
        ),
    ],
)
def test_what_is_no_domain_of_this_kind_is_refused_by_its_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        recreate(LibvirtDomain(parse_xml(text.encode(), source="d.xml"), "d.xml"))
    assert caught.value.message == message


def _render(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "testbed", "render", *arguments], capture_output=True, text=True, check=False
    )


def test_what_is_printed_can_be_pasted() -> None:
    done = _render("--from-libvirt", str(Q35))
    assert done.returncode == 0
    commands = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert [command.split()[:2] for command in commands] == [["testbed", "render"], ["testbed", "run"]]
    assert "#   line 77: <hostdev> pci: a host device" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from-libvirt", "nowhere.xml"], "nowhere.xml: cannot be read: No such file or directory"),
        (["--from-libvirt", __file__], "not XML"),
        (["q35", "--from-libvirt", str(Q35)], "expected a machine template or --from-libvirt FILE"),
        ([], "expected a machine template or --from-libvirt FILE"),
    ],
)
def test_wrong_input_ends_with_status_2_and_one_message(arguments: list[str], words: str) -> None:
    done = _render(*arguments)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
