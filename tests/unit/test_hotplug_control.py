"""Why a request was obeyed or ignored, told from the evidence of one slot."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.guest.hotplug_control import (
    HotplugControl,
    control_findings,
    nobody_serves,
    slot_taken_away,
    why_ignored,
    why_served,
)
from testbed.guest.pci import SlotPlace
from testbed.model.cmdline import CommandLine
from testbed.model.kernel_log import LogRecord
from testbed.model.osc import REQUIRED_SUPPORT, OscNegotiation
from testbed.model.pci import Bdf

PORT = SlotPlace(port=Bdf.parse("00:02.0"), bus=1, device=0)
ROOT = SlotPlace(port=None, bus=0, device=4)
COMPLETE = OscNegotiation(supports=("ExtendedConfig", "ASPM", "ClockPM", "MSI"), references=("kernel.log:80",))
ASPM_OFF = OscNegotiation(supports=("ExtendedConfig", "MSI"), not_requested=True, references=("kernel.log:81",))
NO_MSI = OscNegotiation(
    supports=("ExtendedConfig", "ASPM", "ClockPM"), not_requested=True, references=("kernel.log:82",)
)
NO_ECAM = OscNegotiation(supports=("ASPM", "ClockPM", "MSI"), not_requested=True, references=("kernel.log:83",))
COMPAT = OscNegotiation(supports=COMPLETE.supports, not_requested=True, references=("kernel.log:84",))


def control(**given: Any) -> HotplugControl:
    cmdline = CommandLine(given.pop("cmdline", ""))
    nothing = {"pciehp_bound": False, "interrupts": (), "slot_name": "", "evidence": "shell.jsonl:9"}
    return HotplugControl(**{"place": PORT, "osc": COMPLETE, "cmdline": cmdline, **nothing, **given})


def names(reason: str, *things: str) -> bool:
    """Return whether a reason names all of these."""
    return all(thing in reason for thing in things)


def suspects(reason: str) -> str:
    """Return the options that a reason suspects; empty if it suspects none."""
    return reason.partition("; suspect: ")[2]


def said(*texts: str) -> list[LogRecord]:
    return [LogRecord(line=n, sequence=n, seconds=9.0, level=6, text=text) for n, text in enumerate(texts, 200)]


@pytest.mark.parametrize(
    ("given", "served_by"),
    [
        ({}, ""),
        ({"pciehp_bound": True, "slot_name": "1"}, "pciehp"),
        ({"slot_name": "4"}, "acpiphp"),
        ({"slot_name": "4", "conventional": True, "shpchp_bound": True}, "shpchp"),
    ],
)
def test_who_serves_the_slot(given: dict[str, Any], served_by: str) -> None:
    assert control(**given).served_by == served_by


@pytest.mark.parametrize(
    ("osc", "cmdline", "suspects"),
    [
        (ASPM_OFF, "quiet pcie_aspm=off", ("pcie_aspm=off",)),
        (ASPM_OFF, "pcie-aspm=off", ("pcie_aspm=off",)),
        (ASPM_OFF, "pcie_aspm=force", ()),
        (ASPM_OFF, "", ()),
        (ASPM_OFF, "-- pcie_aspm=off", ()),
        (NO_MSI, "pci=nomsi,noaer", ("pci=nomsi",)),
        (NO_MSI, "pci=noaer pci=nomsi", ("pci=nomsi",)),
        (NO_ECAM, "pci=nommconf", ("pci=nommconf",)),
        (NO_ECAM, "pcie_aspm=off", ()),
        (COMPAT, "pcie_ports=compat", ("pcie_ports=compat",)),
        (COMPAT, "pcie_ports=native", ()),
        (ASPM_OFF, "pcie_aspm=off pcie_ports=compat", ("pcie_aspm=off",)),
        (COMPLETE, "pcie_aspm=off pcie_ports=compat pci=nomsi", ()),
    ],
)
def test_only_an_option_whose_effect_is_seen_is_suspected(
    osc: OscNegotiation, cmdline: str, suspects: tuple[str, ...]
) -> None:
    assert control(osc=osc, cmdline=cmdline).suspects == suspects


def test_pcie_aspm_off_is_told_with_bits_line_port_and_suspect() -> None:
    reason = why_ignored(control(osc=ASPM_OFF, cmdline="pcie_aspm=off"), [])
    assert names(reason, "ASPM ClockPM", "kernel.log:81", str(PORT.port), "/proc/interrupts")
    assert suspects(reason) == "pcie_aspm=off"


def test_missing_bits_without_a_known_option_name_no_suspect() -> None:
    reason = nobody_serves(control(osc=NO_MSI, cmdline="quiet"))
    assert names(reason, "MSI")
    assert not suspects(reason)


def test_a_slot_is_taken_away_only_by_an_option_whose_effect_is_seen() -> None:
    error = slot_taken_away(control(osc=ASPM_OFF, cmdline="pcie_aspm=off"), "no power file")
    assert error is not None
    assert (error.options, error.evidence) == (("pcie_aspm=off",), "kernel.log:81")
    assert names(error.message, "no power file", "ASPM ClockPM")
    assert suspects(error.message) == "pcie_aspm=off"
    for other in ({"cmdline": "pcie_aspm=off"}, {"osc": ASPM_OFF}, {"osc": ASPM_OFF, "pciehp_bound": True}):
        assert slot_taken_away(control(**other), "no power file") is None


def test_pcie_ports_compat_is_told_without_missing_bits() -> None:
    reason = why_ignored(control(osc=COMPAT, cmdline="pcie_ports=compat"), [])
    assert not any(bit in reason for bit in REQUIRED_SUPPORT)
    assert suspects(reason) == "pcie_ports=compat"


@pytest.mark.parametrize(
    ("osc", "cmdline", "cited", "suspect"),
    [
        (
            OscNegotiation(controls=("AER",), platform_lacks=("PCIeHotplug",), references=("kernel.log:85",)),
            "acpiphp.disable=1",
            ("PCIeHotplug", "acpiphp", "kernel.log:85"),
            "acpiphp.disable=1",
        ),
        (OscNegotiation(failure="AE_ERROR", references=("kernel.log:86",)), "", ("AE_ERROR", "kernel.log:86"), ""),
        (
            OscNegotiation(controls=("PCIeHotplug",), references=("kernel.log:87",)),
            "initcall_blacklist=pcie_portdrv_init",
            (),
            "initcall_blacklist=pcie_portdrv_init",
        ),
    ],
)
def test_other_causes_are_told_by_the_rules_of_explain(
    osc: OscNegotiation, cmdline: str, cited: tuple[str, ...], suspect: str
) -> None:
    reason = nobody_serves(control(osc=osc, cmdline=cmdline))
    assert names(reason, *cited, "pciehp", str(PORT.port))
    assert suspects(reason) == suspect


def test_a_port_nobody_serves_for_no_known_reason_is_told_as_seen() -> None:
    reason = nobody_serves(control())
    assert names(reason, "pciehp", str(PORT.port), "/proc/interrupts")
    assert not suspects(reason)


def test_the_root_bus_needs_no_port_driver_and_i440fx_no_osc() -> None:
    reason = nobody_serves(control(place=ROOT, osc=NO_ECAM, cmdline="pci=nommconf"))
    assert names(reason, ROOT.address)
    assert not suspects(reason)


def test_a_root_bus_slot_without_acpiphp_names_the_option_that_turned_it_off() -> None:
    reason = nobody_serves(control(place=ROOT, osc=NO_ECAM, cmdline="pcie_aspm=off acpiphp.disable=1"))
    assert names(reason, ROOT.address)
    assert suspects(reason) == "acpiphp.disable=1"


def test_a_driver_that_did_not_obey_is_quoted_with_its_last_two_lines() -> None:
    slot = control(pciehp_bound=True, slot_name="1")
    records = said("a", "pciehp: Slot(1): Button press", "pciehp: Slot(1): canceling request")
    reason = why_ignored(slot, records)
    assert reason.startswith("pciehp")
    assert all(f"{each.text} ({each.reference})" in reason for each in records[1:])
    assert records[0].reference not in reason
    assert why_ignored(control(slot_name="4"), []).startswith("acpiphp")


def test_pciehp_that_obeyed_is_quoted_with_its_first_words() -> None:
    slot = control(pciehp_bound=True, slot_name="1")
    records = said("acpiphp: hello", "pcieport 0000:00:02.0: pciehp: Slot(1): Attention button pressed")
    assert names(
        why_served(slot, records), "pciehp", str(PORT.port), "Slot(1): Attention button pressed (kernel.log:201)"
    )
    assert names(why_served(slot, []), "pciehp", str(PORT.port))


def test_acpiphp_is_told_as_independent_of_the_missing_bits() -> None:
    assert names(why_served(control(slot_name="4", osc=ASPM_OFF), []), "acpiphp", "slot 4", "_OSC", "ASPM ClockPM")
    assert "ExtendedConfig" not in why_served(control(place=ROOT, slot_name="4", osc=NO_ECAM), [])


@pytest.mark.parametrize(
    ("given", "osc_seen", "slot_seen"),
    [
        ({"osc": ASPM_OFF}, "lacks ASPM ClockPM", "served by nobody, pciehp has no line in /proc/interrupts"),
        (
            {"pciehp_bound": True, "interrupts": ("24: 0 PCI-MSI 32768-edge PCIe PME, aerdrv, pciehp",)},
            "complete",
            "served by pciehp, pciehp has 1 line in /proc/interrupts",
        ),
        ({"place": ROOT, "slot_name": "4", "osc": NO_ECAM}, "lacks ExtendedConfig", "served by acpiphp"),
    ],
)
def test_findings_cite_the_log_and_the_shell(given: dict[str, Any], osc_seen: str, slot_seen: str) -> None:
    slot = control(**given)
    osc, place, *cause = control_findings(slot)
    assert (osc.observed, osc.evidence) == (osc_seen, slot.osc.references[0])
    assert (place.subject, place.observed) == (f"slot {slot.place.address}", slot_seen)
    assert place.evidence == "shell.jsonl:9"
    assert [(each.subject, "lacks ASPM ClockPM" in each.observed) for each in cause] == (
        [("why nobody does", True)] if osc_seen == "lacks ASPM ClockPM" else []
    )


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ({}, True),
        ({"slot_name": "4"}, False),
        ({"place": ROOT}, False),
        ({"place": ROOT, "slot_name": "4"}, False),
        ({"pciehp_bound": True, "slot_name": "1"}, True),
        ({"conventional": True, "shpchp_bound": True, "slot_name": "1"}, True),
    ],
)
def test_what_os_supports_lacks_is_a_fault_only_where_native_control_is_needed(
    given: dict[str, Any], needed: bool
) -> None:
    osc, *_ = control_findings(control(osc=NO_ECAM, **given))
    assert (osc.observed, osc.expected.startswith("any")) == ("lacks ExtendedConfig", not needed)


def test_a_log_without_osc_gives_no_finding_about_it() -> None:
    (place,) = control_findings(control(osc=OscNegotiation()))
    assert place.subject == "slot 0000:01:00"


def test_a_bridge_that_shpchp_could_not_take_is_explained_in_its_words() -> None:
    words = "Cannot get control of SHPC hotplug (kernel.log:306)"
    nobody = control(conventional=True, shpchp_words=words)
    assert names(nobody_serves(nobody), "shpchp", str(PORT.port), words)
    assert "pciehp" not in control_findings(nobody)[-1].observed


def test_a_bridge_that_shpchp_serves_is_told_with_what_it_did() -> None:
    served = control(conventional=True, shpchp_bound=True, slot_name="1")
    records = said(f"shpchp {PORT.port}: Button pressed on Slot(1)")
    reason = why_served(served, records)
    assert names(reason, "shpchp", str(PORT.port), "Button pressed on Slot(1) (kernel.log:200)")
