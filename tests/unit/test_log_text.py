"""Kernel log lines without what differs from boot to boot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.model.log_text import is_by_chance, is_relevant, normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pci 0000:00:02.0: PME# supported from D0 D3hot", "pci 0000:00:1c.4: PME# supported from D0 D3hot"),
        ("PCI host bridge to bus 0000:00", "PCI host bridge to bus 0000:00"),
        ("pci 0000:00:02.0: PCI bridge to [bus 01]", "pci 0000:00:03.0: PCI bridge to [bus 02-0f]"),
        ("pci_bus 0000:01: busn_res: done", "pci_bus 0000:0a: busn_res: done"),
        ("PCI: ECAM [mem 0xb0000000-0xbfffffff] reserved", "PCI: ECAM [mem 0xe0000000-0xefffffff] reserved"),
        ("Memory: 482076K/523888K available", "Memory: 995076K/1048176K available"),
        ("virtio_blk virtio0: [vda] 32768 512-byte logical blocks (16.8 MB/16.0 MiB)",) * 2,
        ("tsc: Detected 2099.998 MHz processor", "tsc: Detected 3400.1 MHz processor"),
        (
            "Calibrating delay loop... 4199.99 BogoMIPS (lpj=2099998)",
            "Calibrating delay loop... 6800 BogoMIPS (lpj=34)",
        ),
        ("pcieport 0000:00:02.0: AER: enabled with IRQ 24", "pcieport 0000:00:03.0: AER: enabled with IRQ 25"),
        ("pcieport 0000:00:02.0: pciehp: Slot #1 AttnBtn+", "pcieport 0000:00:03.0: pciehp: Slot #2 AttnBtn+"),
        ("acpiphp: Slot [3] registered", "acpiphp: Slot [0-4] registered"),
        ("pciehp: Slot(1): Link Up", "pciehp: Slot(0-2): Link Up"),
        ("acpi PNP0A08:00: _OSC: OS supports [MSI]", "acpi PNP0A03:00: _OSC: OS supports [MSI]"),
        ("calling x took 1532 usecs", "calling x took 7 usecs"),
        ("start (____ptrval____)", "start (________ptrval________)"),
        ("rtc: setting to 2026-11-21T13:19:37 UTC", "rtc: setting to 2027-01-02T03:04:05 UTC"),
        ("jiffies: 4294937296", "jiffies: 12"),
        ("RIP at ffffffff81000000", "RIP at ffffffff82abcdef"),
    ],
)
def test_two_boots_say_the_same(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("_OSC: OS supports [ExtendedConfig ASPM ClockPM MSI]", "_OSC: OS supports [ExtendedConfig MSI]"),
        ("pciehp: Slot #1 AttnBtn+ HotPlug+", "pciehp: Slot #1 AttnBtn+ HotPlug-"),
        ("pci 0000:00:02.0: [1b36:000c] type 01", "pci 0000:00:02.0: [1b36:000d] type 01"),
        ("device [8086:10d3] error status/mask=0001/e000", "device [8086:10d3] error status/mask=0002/e000"),
        ("Requesting ACPI _OSC control (0x1d)", "Requesting ACPI _OSC control (0x1c)"),
    ],
)
def test_what_a_kernel_means_is_kept(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@given(st.text(max_size=200))
def test_normalising_again_changes_nothing(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once


@given(
    bus=st.integers(0, 255),
    device=st.integers(0, 31),
    function=st.integers(0, 7),
    start=st.integers(0x10000, 2**40),
    size=st.integers(1, 10**9),
    microseconds=st.integers(1, 10**9),
)
def test_numbers_that_differ_from_boot_to_boot_make_no_difference(
    bus: int, device: int, function: int, start: int, size: int, microseconds: int
) -> None:
    address = f"0000:{bus:02x}:{device:02x}.{function}"
    line = f"pcieport {address}: window [mem {start:#x}-{start + size:#x}] {size}K after {microseconds} usecs"
    assert normalised(line) == "pcieport <function>: window [mem <range>] <size> after <time>"


@pytest.mark.parametrize(
    ("text", "relevant"),
    [
        ("pcieport <function>: pciehp: Slot #<n> AttnBtn+", True),
        ("acpi <host bridge>: _OSC: OS supports [MSI]", True),
        ("virtio_blk virtio0: [vda] <n> 512-byte logical blocks", True),
        ("pcieport <function>: AER: device recovery failed", True),
        ("pci <function>: BAR 2 [mem size <address>]: can't assign; no space", True),
        ("pci <function>: BAR 2 [mem <range>]", False),
        ("pci_bus <bus>: resource 0 [io <range>]", False),
        ("ACPI: MCFG <address> 00003C (v01 BOCHS)", False),
        ("Kernel command line: pcie_aspm=off", False),
        ("NET: Registered PF_INET6 protocol family", False),
        ("spice is not a PCIe matter", True),
        ("the capital of special topics", False),
    ],
)
def test_only_what_is_about_pci_is_told_first(text: str, relevant: bool) -> None:
    assert is_relevant(text) is relevant


def test_what_comes_by_chance_is_known() -> None:
    assert is_by_chance("random: crng init done")
    assert is_by_chance("workqueue: blk_mq_run_work_fn hogged CPU for >10000us 4 times")
    assert not is_by_chance("pcieport 0000:00:02.0: AER: enabled with IRQ 24")
