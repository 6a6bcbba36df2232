"""Facts as they are read from a guest's files and log, and from QEMU's tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.explain.interrupts import Interrupts, parse_interrupts
from testbed.guest.facts import control_facts, interrupt_facts, log_facts, tree_facts
from testbed.guest.files import Shown
from testbed.guest.pci_facts import pci_facts
from testbed.machine.qtree import Tree, TreeDevice
from testbed.model.kernel_log import LogRecord
from tests.unit.config_bytes import Bytes

if TYPE_CHECKING:
    from testbed.model.fact import Fact

PORT, DISK = "0000:00:02.0", "0000:01:00.0"
NAMES = {PORT: "rp1", DISK: "dev1"}
INTERRUPTS = """           CPU0       CPU1
  9:          0          0   IO-APIC   9-fasteoi   acpi
 24:          1          0   PCI-MSI 32768-edge      PCIe PME, aerdrv, pciehp
 25:          1          0   PCI-MSI 49152-edge      PCIe PME, aerdrv, pciehp
 26:          0          7   PCI-MSIX-0000:01:00.0   0-edge      virtio0-config
LOC:       1430        900   Local timer interrupts
ERR:          0
"""
BOOT = (
    "Command line: quiet pcie_aspm=off",
    "acpi PNP0A08:00: _OSC: OS supports [ExtendedConfig Segments MSI HPX-Type3]",
    "acpi PNP0A08:00: _OSC: not requesting OS control; OS requires [ExtendedConfig ASPM ClockPM MSI]",
    "random: crng init done",
    "pci 0000:00:02.0: PME# supported from D0 D3hot",
    "pci 0000:00:03.0: PME# supported from D0 D3hot",
)


def records(*texts: str) -> list[LogRecord]:
    return [LogRecord(line=n, sequence=n, seconds=1.0, level=6, text=text) for n, text in enumerate(texts, 1)]


def interrupts(text: str = INTERRUPTS) -> Interrupts:
    return parse_interrupts(((line, "shell.jsonl:4") for line in text.splitlines()), whole=True, span="shell.jsonl:4")


def values(facts: list[Fact]) -> dict[str, str]:
    return {f"{fact.subject} {fact.aspect}".rstrip(): fact.value for fact in facts}


def shown(*, served: bool) -> Shown:
    port = Bytes().bridge(secondary=1, subordinate=1).express(port_type=4)
    port.u16(0x42, 0x0142).u32(0x54, 1 << 19 | 0x6B).u16(0x58, 0x20).u16(0x5A, 0x40).u16(0x52, 0x2011)
    files = {
        f"/sys/bus/pci/devices/{PORT}/config": bytes(port.aer().data),
        f"/sys/bus/pci/devices/{DISK}/config": bytes(Bytes(256).u32(0, 0x10421AF4).data),
        f"/sys/bus/pci_express/devices/{PORT}:pcie002/uevent": b"DRIVER=aer\n",
        f"/sys/bus/pci_express/devices/{PORT}:pcie010/uevent": b"",
        "/sys/bus/pci/slots/1/address": b"0000:01:00\n",
        "/sys/bus/pci/slots/1/adapter": b"1\n",
    }
    links = {
        f"/sys/bus/pci/devices/{PORT}/driver": "../../../bus/pci/drivers/pcieport",
        "/sys/bus/virtio/devices/virtio0/driver": "../../../bus/virtio/drivers/virtio_blk",
        "/sys/bus/pci/slots/1/module": "../../../../module/pciehp",
    }
    if served:
        files["/sys/bus/pci/slots/1/power"] = b"1\n"
    return Shown(files=files, links=links, evidence="shell.jsonl:4")


def test_interrupt_sources_are_told_without_counts_and_numbers() -> None:
    assert values(list(interrupt_facts(interrupts()))) == {
        "acpi": "IO-APIC fasteoi",
        "PCIe PME": "2 lines, PCI-MSI edge",
        "aerdrv": "2 lines, PCI-MSI edge",
        "pciehp": "2 lines, PCI-MSI edge",
        "virtio0-config": "PCI-MSIX edge",
        "LOC": "Local timer interrupts",
        "ERR": "there",
    }


def test_more_interrupts_are_no_other_fact() -> None:
    later = INTERRUPTS.replace(" 1 ", " 99 ").replace("1430", "2860")
    assert list(interrupt_facts(interrupts(later))) == list(interrupt_facts(interrupts()))


def test_who_controls_what_is_told_with_the_line_it_rests_on() -> None:
    facts = list(control_facts("quiet pcie_aspm=off", records(*BOOT), interrupts("           CPU0\n")))
    told = {f"{fact.subject} {fact.aspect}".rstrip(): (fact.value, fact.evidence) for fact in facts}
    assert told["hot-plug"] == ("nobody", "kernel.log:2")
    assert told["_OSC OS supports"] == ("ExtendedConfig Segments MSI HPX-Type3", "kernel.log:2")


def test_two_host_bridges_are_told_apart() -> None:
    second = [text.replace("PNP0A08:00", "PNP0A08:01") for text in BOOT[1:3]]
    facts = list(control_facts("", records(*BOOT, *second), interrupts()))
    assert {fact.subject for fact in facts if fact.aspect} == {"_OSC of PNP0A08:00", "_OSC of PNP0A08:01"}
    assert len({fact.subject for fact in facts if fact.subject.startswith("hot-plug")}) == 2


def test_the_log_says_each_thing_once_and_nothing_by_chance() -> None:
    facts = list(log_facts(records(*BOOT)))
    assert [fact.evidence for fact in facts if "PME#" in fact.subject] == ["kernel.log:5"]
    assert not [fact for fact in facts if "crng" in fact.subject]


def test_a_port_is_told_with_its_slot_and_services() -> None:
    told = values(list(pci_facts(shown(served=True), NAMES)))
    assert told == {
        "rp1": "pcieport",
        "rp1 room below": "1 bus, memory 4M",
        "rp1 extended capabilities": "AER",
        "rp1 capabilities": "PCI Express",
        "rp1 port type": "root port",
        "rp1 link": "16 GT/s x4, DLActive+",
        "rp1 slot number": "1",
        "rp1 slot": "AttnBtn+ PwrCtrl+ MRL- AttnInd+ PwrInd- HotPlug+ Surprise+ Interlock- NoCompl-",
        "rp1 slot state": "HPIrq+ Power On PresDet+",
        "rp1 service AER": "aer",
        "rp1 service bandwidth": "none",
        "dev1": "none",
        "virtio0": "virtio_blk",
        "1": "served by pciehp",
        "1 address": "0000:01:00",
        "1 card": "present",
    }


def test_the_room_below_a_port_is_told_by_its_sizes_wherever_it_is() -> None:
    port = Bytes().bridge(secondary=3, subordinate=7)
    port.u16(0x1C, 0xD1C1).u16(0x30, 0).u16(0x32, 0)  # I/O 0xc000 to 0xdfff
    port.u16(0x24, 0x0001).u16(0x26, 0x3FF1).u32(0x28, 0xE0).u32(0x2C, 0xE0)  # 0xe000000000 to 0xe03fffffff
    files = {f"/sys/bus/pci/devices/{PORT}/config": bytes(port.data)}
    told = values(list(pci_facts(Shown(files=files, links={}, evidence="shell.jsonl:4"), NAMES)))
    assert told["rp1 room below"] == "5 buses, I/O 8K, memory 4M, prefetchable 1G"


@pytest.mark.parametrize(("served", "word"), [(True, "served by pciehp"), (False, "served by nobody")])
def test_only_a_slot_that_can_be_switched_is_served(served: bool, word: str) -> None:
    assert values(list(pci_facts(shown(served=served), NAMES)))["1"] == word


def test_a_function_has_its_qemu_id_and_where_it_leads() -> None:
    functions = {fact.subject: fact.value for fact in pci_facts(shown(served=True), NAMES) if fact.kind == "pci"}
    assert functions == {
        "rp1": f"8086:10d3 class 0604 at {PORT}, bridge to bus 01",
        "dev1": f"1af4:1042 class 0000 at {DISK}",
    }
    nameless = {fact.subject for fact in pci_facts(shown(served=True), {}) if fact.kind == "pci"}
    assert nameless == {PORT, DISK}


def test_qemu_s_devices_without_an_id_are_counted() -> None:
    eeprom = TreeDevice(driver="smbus-eeprom", bus="i2c")
    lpc = TreeDevice(driver="ICH9-LPC", bus="pcie.0", properties={"acpi-pci-hotplug-with-bridge-support": "false"})
    tree = Tree(machine_type="pc-q35-6.0", devices=(eeprom, eeprom, lpc), evidence="qmp.jsonl:21")
    assert values(list(tree_facts(tree))) == {
        "machine type": "pc-q35-6.0",
        "smbus-eeprom": "smbus-eeprom on i2c",
        "smbus-eeprom #2": "smbus-eeprom on i2c",
        "ICH9-LPC": "ICH9-LPC on pcie.0",
        "ICH9-LPC acpi-pci-hotplug-with-bridge-support": "false",
    }
