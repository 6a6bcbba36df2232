"""What this host's QEMU can run of a libvirt domain: the question that is suggested, and what is replaced."""

from __future__ import annotations

import pytest

from testbed.host.qemu import find_qemu
from testbed.machine.launch import check_spec
from testbed.machine.libvirt import Recreation, recreate
from testbed.machine.libvirt_domain import LibvirtDomain
from testbed.machine.libvirt_fit import fit
from testbed.machine.template import load_template
from testbed.model.xml_reader import parse_xml

PORTS = "<controller type='pci' model='pcie-root-port'/>" * 2
DISK = "<disk type='file' device='disk'><target dev='vda' bus='virtio'/></disk>"


def domain(devices: str, *, machine: str = "q35", size: str = "<memory>1048576</memory>") -> Recreation:
    start = f"<os><type machine='{machine}'>hvm</type></os><features><acpi/></features>"
    text = f"<domain>{size}{start}<devices>{devices}</devices></domain>"
    return recreate(LibvirtDomain(parse_xml(text.encode(), source="d.xml"), "d.xml"))


@pytest.mark.parametrize(
    ("devices", "scenario"),
    [
        (DISK, "disk-unplug"),
        ("<interface type='network'><model type='e1000e'/></interface>", "nic-unplug"),
        ("<disk type='file' device='disk'><target dev='sda' bus='sata'/></disk>", "disk-plug"),
    ],
)
def test_what_is_suggested_can_be_asked_of_the_machine(devices: str, scenario: str) -> None:
    assert fit(domain(PORTS + devices)).scenario == scenario


def test_without_anything_to_plug_or_unplug_nothing_is_suggested() -> None:
    machine = domain(PORTS + "<controller type='usb' model='qemu-xhci'/>")
    machine.parameters["ports"] = 1
    assert fit(machine).scenario == ""


def test_what_this_hosts_qemu_lacks_is_replaced_and_said() -> None:
    machine = domain("<interface type='network'><model type='e1000e'/></interface>", machine="pc-q35-99.1")
    machine.parameters["devices"] = ["e1000e", "no-such-device"]
    machine.parameters["globals"] = {"no-such-device.x": 1}
    machine.parameters["cpu"] = "NoSuchCpu,smap=off"
    fitted = fit(machine)
    qemu = find_qemu()
    spec = load_template("q35").spec(fitted.machine.parameters)
    check_spec(spec, qemu)
    assert fitted.machine.parameters["devices"] == ["e1000e"]
    assert fitted.machine.parameters["cpu"] == "auto"
    for words in ("pc-q35-99.1", "no-such-device", "NoSuchCpu"):
        assert any(words in each for each in fitted.differences)


def test_a_domain_that_is_larger_than_this_host_is_run_smaller() -> None:
    machine = domain(DISK, size="<memory unit='GiB'>64</memory><vcpu>64</vcpu>")
    fitted = fit(machine)
    assert (machine.parameters["memory"], machine.parameters["cpus"]) == (65536, 64)
    assert fitted.size["memory"] < 65536
    assert fitted.size["cpus"] < 64


def test_without_ovmf_seabios_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = domain(PORTS + DISK)
    machine.parameters["firmware"] = "ovmf"
    monkeypatch.setattr("testbed.host.firmware.OVMF", ())
    monkeypatch.setattr("testbed.host.firmware._descriptors", lambda _: [])
    fitted = fit(machine)
    assert "firmware" not in fitted.machine.parameters
    assert any("no OVMF: SeaBIOS instead" in each for each in fitted.differences)
