"""What is counted to find a leak: sources of interrupts whatever their numbers, and a trend whatever the noise."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.actions.inventory import Inventory, interrupt_sources, trend

INTERRUPTS = """\
            CPU0       CPU1
   4:        171          0   IO-APIC   4-edge      ttyS0
  24:          0          2   PCI-MSI 32768-edge      PCIe PME, aerdrv, pciehp
  28:          0          0   PCI-MSI 1048576-edge      virtio3-config
  29:          9          1   PCI-MSI 1048577-edge      virtio3-req.0
 NMI:          0          0   Non-maskable interrupts
"""


def inventory(**things: str) -> Inventory:
    return Inventory(
        things={what: Counter(names.split()) for what, names in things.items()}, free_kib=1, evidence="shell.jsonl:1"
    )


def test_a_source_is_its_chip_and_its_names() -> None:
    assert interrupt_sources(INTERRUPTS) == {
        "IO-APIC ttyS0": 1,
        "PCI-MSI PCIe PME, aerdrv, pciehp": 1,
        "PCI-MSI virtio-config": 1,
        "PCI-MSI virtio-req.0": 1,
    }


def test_the_numbers_of_a_replugged_device_are_no_leak() -> None:
    later = INTERRUPTS.replace(" 28:", " 31:").replace("virtio3", "virtio17").replace("1048576", "2097152")
    assert interrupt_sources(later) == interrupt_sources(INTERRUPTS)
    assert (
        interrupt_sources(later + "  32:   0   0   PCI-MSI 7-edge      virtio18-config\n")["PCI-MSI virtio-config"] == 2
    )


def test_more_and_less_are_both_named() -> None:
    changed = inventory(slots="1 2 3", nodes="a b b").more_than(inventory(slots="1 2 3", nodes="a b c"))
    assert changed == {"nodes": ["b", "-c"]}


@given(st.floats(-1000, 1000), st.floats(-100, 100), st.integers(2, 60))
def test_a_line_has_its_slope(start: float, slope: float, count: int) -> None:
    assert trend([start + slope * index for index in range(count)]) == pytest.approx(slope, abs=1e-6)


def test_few_values_have_no_trend() -> None:
    assert trend([]) == trend([5.0]) == 0.0
