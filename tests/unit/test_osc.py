"""The `_OSC` negotiation as kernels 3.10 to 7.1 print it: what was supported, granted, refused, never asked for."""

from __future__ import annotations

import pytest

from testbed.model.kernel_log import LogRecord
from testbed.model.osc import OscNegotiation, bridge_above, read_bridges
from testbed.model.pci import Bdf

Q35 = "acpi PNP0A08:00: "
I440FX = "acpi PNP0A03:00: "
ALL = "_OSC: OS supports [ExtendedConfig ASPM ClockPM Segments MSI HPX-Type3]"
REFUSAL = "_OSC: not requesting OS control; OS requires [ExtendedConfig ASPM ClockPM MSI]"


def negotiated(*texts: str) -> OscNegotiation:
    noise = ("ACPI: bus type PCI registered", *texts, "PCI host bridge to bus 0000:00")
    bridges = read_bridges(
        LogRecord(line=line, sequence=line, seconds=0.1, level=6, text=text) for line, text in enumerate(noise, 1)
    )
    return next(iter(bridges), OscNegotiation())


def test_native_hotplug_on_q35() -> None:
    osc = negotiated(
        Q35 + ALL,
        Q35 + "_OSC: platform does not support [LTR]",
        Q35 + "_OSC: OS now controls [PCIeHotplug SHPCHotplug PME AER PCIeCapability]",
    )
    assert osc.native_hotplug
    assert not osc.not_requested
    assert osc.missing_support == ()
    assert osc.platform_lacks == ("LTR",)
    assert osc.controls == ("PCIeHotplug", "SHPCHotplug", "PME", "AER", "PCIeCapability")


def test_acpi_hotplug_on_q35_keeps_native_hotplug_from_the_os() -> None:
    osc = negotiated(
        Q35 + ALL,
        Q35 + "_OSC: platform does not support [PCIeHotplug LTR]",
        Q35 + "_OSC: OS now controls [SHPCHotplug PME AER PCIeCapability]",
    )
    assert not osc.native_hotplug
    assert not osc.not_requested
    assert osc.missing_support == ()
    assert osc.platform_lacks == ("PCIeHotplug", "LTR")


def test_pcie_aspm_off_takes_two_bits_away() -> None:
    osc = negotiated(
        "PCIe ASPM is disabled", Q35 + "_OSC: OS supports [ExtendedConfig Segments MSI HPX-Type3]", Q35 + REFUSAL
    )
    assert osc.not_requested
    assert osc.missing_support == ("ASPM", "ClockPM")
    assert osc.controls is None
    assert not osc.native_hotplug


def test_plain_i440fx_prints_the_same_refusal_for_another_reason() -> None:
    osc = negotiated(I440FX + "_OSC: OS supports [ASPM ClockPM Segments MSI HPX-Type3]", I440FX + REFUSAL)
    assert osc.not_requested
    assert osc.missing_support == ("ExtendedConfig",)


@pytest.mark.parametrize(
    ("supports", "missing"),
    [
        ("ExtendedConfig ASPM ClockPM Segments HPX-Type3", "MSI"),  # pci=nomsi
        ("ASPM ClockPM Segments MSI HPX-Type3", "ExtendedConfig"),  # pci=nommconf
    ],
)
def test_each_missing_bit_is_named(supports: str, missing: str) -> None:
    assert negotiated(f"{Q35}_OSC: OS supports [{supports}]", Q35 + REFUSAL).missing_support == (missing,)


def test_pcie_ports_compat_refuses_in_other_words_and_misses_nothing() -> None:
    osc = negotiated(Q35 + ALL, Q35 + "PCIe port services disabled; not requesting _OSC control")
    assert osc.not_requested
    assert osc.missing_support == ()


def test_pci_noaer_keeps_native_hotplug() -> None:
    osc = negotiated(Q35 + ALL, Q35 + "_OSC: OS now controls [PCIeHotplug SHPCHotplug PME PCIeCapability]")
    assert osc.native_hotplug
    assert "AER" not in (osc.controls or ())


@pytest.mark.parametrize(
    "supports",
    [
        "ExtendedConfig ASPM ClockPM Segments MSI",  # 3.10 and 4.19
        "ExtendedConfig ASPM ClockPM Segments MSI EDR HPX-Type3",  # CONFIG_PCIE_EDR
    ],
)
def test_other_kernels_lists_are_complete_too(supports: str) -> None:
    assert negotiated(f"{Q35}_OSC: OS supports [{supports}]").missing_support == ()


def test_only_the_first_host_bridge_counts() -> None:
    osc = negotiated(
        Q35 + ALL,
        Q35 + "_OSC: OS now controls [PCIeHotplug AER]",
        "acpi PNP0A08:01: _OSC: OS supports [MSI]",
        "acpi PNP0A08:01: _OSC: OS now controls [AER]",
    )
    assert osc.missing_support == ()
    assert osc.native_hotplug


def test_the_lines_it_was_read_from_are_cited_in_order() -> None:
    osc = negotiated(Q35 + ALL, "something else", Q35 + REFUSAL)
    assert osc.references == ("kernel.log:2", "kernel.log:4")


def test_a_log_without_osc_says_nothing() -> None:
    osc = negotiated("ACPI: Interpreter disabled.")
    assert osc == OscNegotiation()
    assert osc.missing_support == ()
    assert not osc.native_hotplug


def records(*texts: str) -> list[LogRecord]:
    return [LogRecord(line=line, sequence=line, seconds=0.1, level=6, text=text) for line, text in enumerate(texts, 1)]


def test_every_host_bridge_is_read_with_its_buses_and_lines() -> None:
    first, second = read_bridges(
        records(
            "ACPI: PCI Root Bridge [PCI0] (domain 0000 [bus 00-7f])",
            Q35 + ALL,
            Q35 + "_OSC: OS now controls [PME AER]",
            "ACPI: PCI Root Bridge [PC80] (domain 0001 [bus 80-ff])",
            "acpi PNP0A08:80: _OSC: OS supports [MSI]",
            "acpi PNP0A08:80: " + REFUSAL,
        )
    )
    assert (first.bridge, first.root, first.domain, first.buses) == ("PNP0A08:00", "PCI0", 0, (0, 0x7F))
    assert (second.bridge, second.root, second.domain, second.buses) == ("PNP0A08:80", "PC80", 1, (0x80, 0xFF))
    assert (first.where("controls"), second.where("not_requested")) == (("kernel.log:3",), ("kernel.log:6",))
    assert not first.not_requested
    assert second.missing_support == ("ExtendedConfig", "ASPM", "ClockPM")
    assert bridge_above((first, second), Bdf.parse("0001:81:00.0")) is second
    assert bridge_above((first, second), Bdf.parse("0000:00:02.0")) is first
    assert bridge_above((first, second), Bdf.parse("0002:00:02.0")) is first


def test_a_bridge_that_says_nothing_gives_its_buses_to_no_other() -> None:
    (osc,) = read_bridges(
        records(
            "ACPI: PCI Root Bridge [PCI0] (domain 0000 [bus 00-7f])",
            "ACPI: PCI Root Bridge [PCI1] (domain 0000 [bus 80])",
            "acpi PNP0A08:01: " + ALL,
        )
    )
    assert (osc.root, osc.buses) == ("PCI1", (0x80, 0x80))


def test_cxl_lists_do_not_stand_for_pci_express_ones() -> None:
    osc = negotiated(
        "acpi ACPI0016:00: " + ALL,
        "acpi ACPI0016:00: _OSC: OS supports [CXL11PortRegAccess]",
        "acpi ACPI0016:00: _OSC: OS now controls [CXLMemErrorReporting]",
    )
    assert osc.missing_support == ()
    assert osc.controls is None


def test_the_masks_of_old_kernels_have_the_later_names() -> None:
    osc = negotiated(
        " pci0000:00: Requesting ACPI _OSC control (0x1f)", " pci0000:00: ACPI _OSC control (0x15) granted"
    )
    assert (osc.bridge, osc.controls) == ("pci0000:00", ("PCIeHotplug", "PME", "PCIeCapability"))
    osc = negotiated(" pci0000:00: Unable to request _OSC control (_OSC support mask: 0x08)")
    assert (osc.supports, osc.not_requested) == (("Segments",), True)


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("_OSC failed (AE_NOT_FOUND); disabling ASPM", "AE_NOT_FOUND"),
        ("_OSC: platform retains control of PCIe features (AE_ERROR)", "AE_ERROR"),
        ("ACPI _OSC request failed (AE_SUPPORT), returned control mask: 0x00", "AE_SUPPORT"),
    ],
)
def test_a_failed_method_is_named_by_its_error(text: str, failure: str) -> None:
    assert negotiated(Q35 + text).failure == failure
