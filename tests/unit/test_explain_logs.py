"""What logs of machines that people have are explained to show: each a kind of mistake that accuses the innocent.

Each rule's source is named where the rule stands; here beside each text what is true of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import testbed
from testbed.explain.explanation import Explanation, explain
from testbed.explain.holder import Holder
from testbed.explain.passthrough import NEIGHBOUR_CASE, OWN_CASE
from testbed.explain.source import split_parts
from testbed.explain.suspect import Blame

from . import explain_texts as texts
from .explain_texts import bridge, root

NOBODY, LINUX, ACPI, PLATFORM, UNKNOWN = Holder.NOBODY, Holder.LINUX, Holder.ACPI, Holder.PLATFORM, Holder.UNKNOWN

CASES = Path(testbed.__file__).parent / "cases"
ALL = f"_OSC: OS supports [{texts.COMPLETE}]"
REQUESTED = "_OSC: OS requested [PCIeHotplug SHPCHotplug PME AER PCIeCapability LTR]"
RETAINED = "_OSC: platform retains control of PCIe features ({})"
MASK_310 = "acpi PNP0A08:00: Unable to request _OSC control (_OSC support mask: 0x{})"
SCANNED = ("PCI host bridge to bus 0000:00", "pci 0000:00:1c.0: [8086:8c10] type 01 class 0x060400")
HARDWARE = "DMI: Contoso Server 4000/0X1234, BIOS 2.1.7 03/03/2021"


def explained(**files: str) -> Explanation:
    return explain([part for name, text in files.items() for part in split_parts(name, text.encode())])


def boot(*messages: str, cmdline: str = "root=/dev/sda1 ro quiet", version: str = "6.8.0") -> str:
    return texts.boot(cmdline, *messages, version=version, dmi=HARDWARE)


def holders(explanation: Explanation) -> tuple[Holder, ...]:
    """Return who has hot-plug, AER and PME below the first host bridge."""
    rows = {row.service: row.holder for row in reversed(explanation.control)}
    return rows["hot-plug"], rows["AER"], rows["PME"]


def why(explanation: Explanation, service: str) -> str:
    return next(row.why for row in explanation.control if row.service == service)


def names(explanation: Explanation) -> list[str]:
    return [suspect.name for suspect in explanation.suspects]


def shown(explanation: Explanation, *words: str) -> str:
    """Return the one statement that has all these words."""
    (text,) = [each.text for each in explanation.observations if all(word in each.text for word in words)]
    return text


# ---- how a negotiation ended ----


@pytest.mark.parametrize(
    ("lines", "suspects"),
    [
        # up to 3.11: the call that tells what Linux supports failed; the mask is the base flags, not what Linux lacks
        (
            ("acpi PNP0A08:00: ACPI _OSC support notification failed, disabling PCIe ASPM", MASK_310.format("08")),
            ["_OSC refuses what Linux supports"],
        ),
        (
            (
                r"\_SB_.PCI0:_OSC invalid UUID",
                "_OSC request data:1 1f 1f ",
                " pci0000:00: ACPI _OSC support notification failed, disabling PCIe ASPM",
                " pci0000:00: Unable to request _OSC control (_OSC support mask: 0x08)",
            ),
            ["_OSC refuses what Linux supports"],
        ),
        # 3.12 to 5.10: the same, with a status and nothing requested
        (
            (
                *bridge(ALL),
                r"\_SB_.PCI0 (33DB4D5B-1FF7-401C-9657-7441C03DD766): _OSC invalid UUID",
                *bridge("_OSC failed (AE_ERROR); disabling ASPM"),
            ),
            ["_OSC refuses what Linux supports with AE_ERROR"],
        ),
        # no method at all, where no message of ACPICA's tells of one that was run
        (bridge(ALL, "_OSC failed (AE_NOT_FOUND); disabling ASPM"), ["no _OSC method"]),
        (
            bridge(
                ALL,
                REQUESTED,
                REQUESTED.replace("OS requested", "platform willing to grant"),
                RETAINED.format("AE_NOT_FOUND"),
            ),
            ["no _OSC method"],
        ),
        # a method that is there, and fails as it does not find what it names
        (
            (
                *bridge(ALL),
                r"ACPI BIOS Error (bug): Could not resolve symbol [\_SB.PCI0._OSC.CAPD], AE_NOT_FOUND",
                r"ACPI Error: Aborting method \_SB.PCI0._OSC due to previous error (AE_NOT_FOUND)",
                *bridge(REQUESTED, RETAINED.format("AE_NOT_FOUND")),
            ),
            ["_OSC fails with AE_NOT_FOUND"],
        ),
        # \_SB's own _OSC is another one
        (
            (
                r"ACPI Error: Aborting method \_SB._OSC due to previous error (AE_NOT_FOUND)",
                *bridge(ALL, "_OSC failed (AE_NOT_FOUND)"),
            ),
            ["no _OSC method"],
        ),
        # PCIeCapability is not granted: the kernel's own status, and nothing was requested
        (
            bridge(
                ALL,
                "_OSC: platform does not support [SHPCHotplug PCIeCapability LTR]",
                "_OSC: not requesting control; platform does not support [PCIeCapability]",
                REQUESTED,
                "_OSC: platform willing to grant [PCIeHotplug PME AER]",
                RETAINED.format("AE_SUPPORT"),
            ),
            ["the firmware keeps PCIeCapability"],
        ),
        (
            (
                " pci0000:00: Requesting ACPI _OSC control (0x1d)",
                " pci0000:00: ACPI _OSC request failed (AE_SUPPORT), returned control mask: 0x0d",
                "ACPI _OSC control for PCIe not granted, disabling ASPM",
            ),
            ["the firmware keeps PCIeCapability"],
        ),
        # 2.6.3x: a request that was not granted, without a status or a bridge's name
        (
            (" pci0000:00: Requesting ACPI _OSC control (0x1d)", "Unable to assume _OSC PCIe control. Disabling ASPM"),
            ["_OSC grants nothing"],
        ),
    ],
)
def test_why_linux_got_nothing_is_told_apart(lines: tuple[str, ...], suspects: list[str]) -> None:
    explanation = explained(dmesg=boot(root(), *lines, *SCANNED))
    assert holders(explanation) == (NOBODY, PLATFORM, PLATFORM)
    assert names(explanation) == suspects
    assert {each.blame for each in explanation.suspects} == {Blame.FIRMWARE}
    assert len({row.bridge for row in explanation.control}) == 1


@pytest.mark.parametrize(
    ("asked", "granted", "aer", "suspects"),
    [
        ("1d", "15", PLATFORM, []),  # requested, and kept by the platform
        ("15", "15", PLATFORM, ["CONFIG_PCIEAER is not set"]),  # not requested
        ("1d", "1d", LINUX, []),
    ],
)
def test_what_was_requested_and_kept_is_not_said_to_have_not_been_asked_for(
    asked: str, granted: str, aer: Holder, suspects: list[str]
) -> None:
    lines = (
        f" pci0000:00: Requesting ACPI _OSC control (0x{asked})",
        f" pci0000:00: ACPI _OSC control (0x{granted}) granted",
    )
    explanation = explained(dmesg=boot(root(), *lines, *SCANNED))
    assert holders(explanation) == (LINUX, aer, LINUX)
    assert names(explanation) == suspects


def test_what_the_platform_lacks_may_be_told_in_steps() -> None:
    lacks = ("_OSC: platform does not support [AER]", "_OSC: platform does not support [PME]")
    explanation = explained(
        dmesg=boot(root(), *bridge(ALL, *lacks, "_OSC: OS now controls [PCIeHotplug PCIeCapability]"))
    )
    assert holders(explanation) == (LINUX, PLATFORM, PLATFORM)
    assert names(explanation) == []


def test_apples_firmware_is_not_asked() -> None:
    words = "_OSC: OS assumes control of [PCIeHotplug SHPCHotplug AER PCIeCapability LTR DPC]"
    explanation = explained(dmesg=boot(root(), *bridge(words), *SCANNED))
    assert holders(explanation) == (LINUX, LINUX, PLATFORM)
    assert names(explanation) == []


@pytest.mark.parametrize(
    ("lacks", "controls"),
    [("PCIeHotplug PME AER", "PCIeCapability LTR DPC"), ("AER", "PCIeHotplug PME PCIeCapability DPC")],
)
def test_dpc_does_not_run_without_aer(lacks: str, controls: str) -> None:
    lines = (
        root(),
        *bridge(ALL, f"_OSC: platform does not support [{lacks}]", f"_OSC: OS now controls [{controls}]"),
        *SCANNED,
    )
    dpc = {
        option: next(
            row for row in explained(dmesg=boot(*lines, cmdline=f"ro {option}")).control if row.service == "DPC"
        )
        for option in ("quiet", "pcie_ports=dpc-native", "pcie_ports=native")
    }
    assert [row.holder for row in dpc.values()] == [NOBODY, LINUX, LINUX]
    assert not explained(dmesg=boot(*lines, "acpiphp: Slot [1] registered")).is_suspicious


# ---- options and the kernel's configuration ----

DISABLED = (root(), *bridge(ALL, "PCIe port services disabled; not requesting _OSC control"), *SCANNED)


@pytest.mark.parametrize(
    ("lines", "files", "suspects"),
    [
        (DISABLED, {"cmdline": "root=/dev/sda1 ro quiet"}, ["CONFIG_PCIEPORTBUS is not set"]),
        (DISABLED, {"cmdline": "root=/dev/sda1 ro pcie_ports=compat"}, ["pcie_ports=compat"]),
        (DISABLED, {}, ["pcie_ports=compat", "CONFIG_PCIEPORTBUS is not set"]),
        # up to 3.11 a mask of all that is required says the same
        ((root(), MASK_310.format("1f")), {"cmdline": "root=/dev/sda1 ro"}, ["CONFIG_PCIEPORTBUS is not set"]),
        (texts.refused("ExtendedConfig Segments MSI"), {}, ["pcie_aspm=off", "CONFIG_PCIEASPM is not set"]),
        (texts.refused("ExtendedConfig Segments MSI"), {"cmdline": "root=x ro"}, ["CONFIG_PCIEASPM is not set"]),
        (texts.refused("ExtendedConfig ASPM ClockPM Segments"), {}, ["pci=nomsi", "CONFIG_PCI_MSI is not set"]),
        (texts.refused("ASPM ClockPM Segments MSI"), {}, ["pci=nommconf", "no usable ECAM"]),
        (bridge(texts.REFUSAL), {"cmdline": "root=x pcie_aspm=off"}, ["pcie_aspm=off"]),
        (bridge(texts.REFUSAL), {}, ["a feature that Linux requires is missing"]),
    ],
)
def test_an_option_is_suspect_only_if_it_is_on_the_line_or_the_line_is_not_known(
    lines: tuple[str, ...], files: dict[str, str], suspects: list[str]
) -> None:
    explanation = explained(dmesg=texts.stamped(*lines), **files)
    assert names(explanation) == suspects
    assert explanation.is_suspicious


@pytest.mark.parametrize(
    ("cmdline", "expected", "suspects"),
    [
        ("ro acpi=off pcie_ports=compat pcie_aspm=off", (NOBODY, NOBODY, NOBODY), ["pcie_ports=compat", "acpi=off"]),
        ("ro acpi=off pcie_aspm=off", (NOBODY, NOBODY, NOBODY), ["acpi=off"]),
    ],
)
def test_without_acpi_what_works_through_osc_is_innocent(
    cmdline: str, expected: tuple[Holder, ...], suspects: list[str]
) -> None:
    explanation = explained(
        dmesg=boot("PCIe ASPM is disabled", "ACPI: Interpreter disabled.", *SCANNED, cmdline=cmdline)
    )
    assert holders(explanation) == expected
    assert names(explanation) == suspects


# ---- machines without ACPI ----

PORT_SERVICES = (
    "pcieport 0004:40:00.0: PME: Signaling with IRQ 128",
    "pcieport 0004:40:00.0: AER: enabled with IRQ 128",
)


@pytest.mark.parametrize(
    "marks",
    [
        ("Machine model: Rockchip RK3588 board", "psci: probing for conduit method from DT."),
        ("OF: fdt: Machine model: SiFive HiFive Unmatched A00", "SBI specification v0.3 detected"),
        ("setup: Linux is running natively in 64-bit mode",),
        ("Using PowerNV machine description", "PCI host bridge /pciex@600c3c0000000 (primary) ranges:"),
        ("rk-pcie fe190000.pcie: host bridge /pcie@fe190000 ranges:",),
    ],
)
def test_a_machine_without_acpi_has_no_osc_and_linux_owns_its_services(marks: tuple[str, ...]) -> None:
    log = texts.stamped("Linux version 5.10.110", *marks, "Kernel command line: root=/dev/mmcblk0p2", *PORT_SERVICES)
    explanation = explained(dmesg=log)
    assert holders(explanation) == (NOBODY, LINUX, LINUX)
    assert "no port reported a slot" in why(explanation, "hot-plug")
    assert any("without ACPI" in each.text for each in explanation.subject)
    assert not any("journalctl" in step.command for step in explanation.steps)
    assert not explanation.is_suspicious


# ---- what a running kernel says ----


@pytest.mark.parametrize(
    ("line", "service"),
    [
        ("pciehp 0000:00:02.2:pcie004: Slot(0-2): Attention button pressed", "hot-plug"),
        ("pcieport 0000:00:02.0: pciehp: Slot(2): Link Down", "hot-plug"),
        ("pciehp 0000:00:1c.0:pcie04: Card present on Slot(4)", "hot-plug"),
        ("pciehp 0000:00:1c.0:pcie04: HPC vendor_id 8086 device_id 2940 ss_vid 0 ss_did 0", "hot-plug"),
        ("pcieport 0000:00:1c.4: AER: Corrected error received: id=00e4", "AER"),
        ("pcieport 0000:00:01.0: AER: Uncorrectable (Non-Fatal) error message received from 0000:01:00.0", "AER"),
        ("nvme 0000:01:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)", "AER"),
        ("pcieport 0000:00:1c.0: aer_inject: Injecting errors 00000000/00004000 into device 0000:02:00.0", "AER"),
        ("pcieport 0000:00:1c.0: PME: Spurious native interrupt!", "PME"),
    ],
)
def test_a_driver_that_speaks_at_run_time_runs(line: str, service: str) -> None:
    explanation = explained(log=f"Jan 12 03:11:20 vm kernel: {line}\n")
    held = {row.service: row.holder for row in explanation.control}
    assert held == {"hot-plug": UNKNOWN, "AER": UNKNOWN, "PME": UNKNOWN} | {service: LINUX}


@pytest.mark.parametrize(
    "line",
    [
        "pciehp: PCI Express Hot Plug Controller Driver version: 0.4",
        "pci_hotplug: PCI Hot Plug PCI Core version: 0.5",
        "pcieport 0000:00:1c.0: device has no AER-aware driver",
        "pcieport 0000:00:01.0: DPC: containment event, status:0x1f01 source:0x0000",
    ],
)
def test_a_drivers_name_alone_proves_nothing(line: str) -> None:
    assert holders(explained(log=texts.stamped(line))) == (UNKNOWN, UNKNOWN, UNKNOWN)


def flood(times: int, severity: str = "Corrected", status: str = "00000001", layer: str = "Physical Layer") -> str:
    return "".join(
        f"Nov 09 15:{10 + number:02}:12 host kernel: {text}\n"
        for number in range(times)
        for text in (
            f"pcieport 0000:00:01.0: AER: Multiple {severity} error received: 0000:01:00.0",
            f"nvme 0000:01:00.0: PCIe Bus Error: severity={severity}, type={layer}, (Receiver ID)",
            f"nvme 0000:01:00.0:   device [144d:a80a] error status/mask={status}/0000e000",
        )
    )


def test_errors_are_counted_and_named() -> None:
    explanation = explained(journal=flood(14) + flood(1, status="00001000"))
    assert holders(explanation)[1] is LINUX
    text = shown(explanation, "corrected errors")
    for words in ("15 reports", "0000:01:00.0: RxErr Timeout, physical layer", "Nov 09 15:10:12"):
        assert words in text
    assert explanation.is_suspicious
    severe = explained(journal=flood(2, "Uncorrected (Non-Fatal)", "00004000", "Transaction Layer"))
    assert "2 reports" in shown(severe, "uncorrected (non-fatal) errors at 0000:01:00.0: CmpltTO, transaction layer")


def test_errors_before_the_last_boot_are_told() -> None:
    log = f"{flood(3)}Nov 09 15:40:00 host kernel: Linux version 6.8.0\nNov 09 15:40:00 host kernel: Command line: ro\n"
    explanation = explained(journal=log)
    assert "3 reports of errors at 0000:01:00.0" in shown(explanation, "before the last boot")
    assert explanation.is_suspicious


@pytest.mark.parametrize(("files", "holder"), [({}, LINUX), ({"cmdline": "root=/dev/sda1 ro"}, PLATFORM)])
def test_a_driver_that_runs_in_spite_of_osc_shows_an_option_that_is_not_in_the_excerpt(
    files: dict[str, str], holder: Holder
) -> None:
    lines = (root(), *bridge(ALL.replace(" ASPM ClockPM", ""), texts.REFUSAL), *texts.PORT_WORDS["6.1"][1:2])
    explanation = explained(dmesg=texts.stamped(*lines), **files)
    assert holders(explanation)[1] is holder
    assert bool(explanation.contradictions) is (holder is PLATFORM)


def test_a_routing_id_of_an_older_kernel_is_an_address() -> None:
    lines = (
        "pcieport 0000:00:1c.5: AER: Corrected error received: id=00e5",
        "pcieport 0000:00:1c.5: can't find device of ID00e5",
        "pcieport 0000:00:1c.5: AER: Multiple Corrected error received: id=00e5",
        "pcieport 0000:00:1c.5: PCIe Bus Error: severity=Corrected, type=Physical Layer, id=00e5(Receiver ID)",
        "pcieport 0000:00:1c.5:   device [8086:a114] error status/mask=00000001/00002000",
    )
    assert "2 reports" in shown(explained(log=texts.stamped(*lines)), "at 0000:00:1c.5: RxErr")


GHES = (
    "{3}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 514",
    "{3}[Hardware Error]: event severity: corrected",
    "{3}[Hardware Error]:   section_type: PCIe error",
    "{3}[Hardware Error]:   device_id: 0000:2c:00.0",
    "{3}[Hardware Error]:   vendor_id: 0x1022, device_id: 0xb000",
    "nvme 0000:2c:00.0: AER: aer_status: 0x00002001, aer_mask: 0x00000000",
    "nvme 0000:2c:00.0: AER:    [ 0] RxErr                  (First)",
)


def test_errors_that_the_firmware_hands_on_do_not_show_that_linux_has_aer() -> None:
    explanation = explained(log=texts.stamped(*GHES, *GHES))
    assert holders(explanation)[1] is PLATFORM
    text = shown(explanation, "APEI")
    assert "2 reports of corrected errors at 0000:2c:00.0: RxErr NonFatalErr" in text
    assert explanation.is_suspicious


def test_recoveries_are_told_with_how_they_ended() -> None:
    announced = "pcieport 0000:00:1c.0: AER: Uncorrected (Fatal) error received: 0000:02:00.0"
    good = (announced, "pcieport 0000:00:1c.0: AER: device recovery successful")
    bad = (
        announced,
        "pci 0000:02:00.1: AER: can't recover (no error_detected callback)",
        "pcieport 0000:00:1c.0: AER: device recovery failed",
    )
    explanation = explained(log=texts.stamped(*good, *good, *bad))
    assert "2 times" in shown(explanation, "recovery successful")
    assert "0000:02:00.1 can't recover" in shown(explanation, "recovery failed")
    assert "3 reports" in shown(explanation, "uncorrected (fatal) errors")


def test_a_link_that_dpc_cut_off_is_told() -> None:
    event = "pcieport 0000:00:1b.0: DPC: containment event, status:0x1f01 source:0x0000"
    end = "pcieport 0000:00:1b.0: AER: device recovery successful"
    explanation = explained(log=texts.stamped(event, end, event, end), cmdline="root=/dev/sda1 ro")
    assert "0000:00:1b.0: DPC took its link down 2 times" in shown(explanation, "DPC")
    assert explanation.is_suspicious
    assert {row.service: row.holder for row in explanation.control} == {
        "hot-plug": UNKNOWN,
        "AER": LINUX,  # portdrv starts DPC only where it has AER
        "PME": UNKNOWN,
        "DPC": LINUX,
    }
    by_firmware = explained(log=texts.stamped("pcieport 0000:00:1b.0: EDR: EDR event received", event, end))
    assert next(row.holder for row in by_firmware.control if row.service == "DPC") is PLATFORM
    assert holders(by_firmware)[1] is UNKNOWN


@pytest.mark.parametrize("fault", ["Power fault", "Failed to check link status", "Power fault interrupt received"])
def test_what_goes_wrong_in_a_slot_is_suspicious_and_counted(fault: str) -> None:
    explanation = explained(log=texts.stamped(*[f"pcieport 0000:00:02.0: pciehp: Slot(2): {fault}"] * 3))
    assert "(3 times)" in shown(explanation, "Slot(2)")
    assert explanation.is_suspicious


@pytest.mark.parametrize(("times", "suspicious"), [(1, False), (2, False), (3, True), (40, True)])
def test_a_link_that_goes_down_again_and_again_is_told(times: int, *, suspicious: bool) -> None:
    words = ("Link Down", "Card not present", "Card present", "Link Up")
    log = texts.stamped(*[f"pcieport 0000:3a:00.0: pciehp: Slot(12): {word}" for word in words] * times)
    explanation = explained(log=log)
    assert explanation.is_suspicious is suspicious
    assert suspicious is (f"0000:3a:00.0 Slot(12): its link went down {times} times" in str(explanation.observations))


def test_a_slot_that_was_powered_off_and_came_back_is_told() -> None:
    port = "pciehp 0000:00:02.2:pcie004: Slot(0-2):"
    words = ("Attention button pressed", "Powering off due to button press", "Link Up", "No adapter")
    explanation = explained(log="".join(f"Jan 12 03:11:20 vm kernel: {port} {each}\n" for each in words))
    assert len(shown(explanation, "Slot(0-2)", "came back")) > 0
    assert not any("came back" in each.text for each in explained(log=texts.stamped(f"{port} Link Up")).observations)


# ---- absence, and why a log is taken for complete ----


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (boot(root(), *bridge(ALL, texts.REFUSAL), *SCANNED), NOBODY),
        (texts.stamped(root(), *bridge(ALL, texts.REFUSAL), *SCANNED, "NET: later"), UNKNOWN),
        (texts.stamped("Linux version 6.1", root(), *bridge(ALL, texts.REFUSAL), *SCANNED), UNKNOWN),
        (boot(root(), *bridge(ALL, texts.REFUSAL), *SCANNED, "systemd-journald: Missed 17 kernel messages"), UNKNOWN),
        (boot(root(), *bridge(ALL, texts.REFUSAL), *SCANNED, "acpiphp: Slot [3] registered"), ACPI),
    ],
    ids=["whole", "no beginning", "no end", "gap", "slot"],
)
def test_a_slot_is_said_to_be_missing_only_by_a_complete_log(log: str, expected: Holder) -> None:
    explanation = explained(dmesg=log.replace("ExtendedConfig ASPM", "ExtendedConfig"))
    assert holders(explanation)[0] is expected
    assert ("registered no slot, in a log that runs from" in why(explanation, "hot-plug")) is (expected is NOBODY)


# ---- no false alarms ----


@pytest.mark.parametrize(
    ("resource", "words", "suspicious"),
    [
        ("pci 0000:01:00.0: BAR 2: no space for [mem size 0x00004000]", "no room for its BAR", True),
        ("pci 0000:01:00.0: BAR 2 [mem size 0x4000 64bit]: can't assign; no space", "no room for its BAR", True),
        ("pci 0000:82:00.0: BAR 7: no space for [mem size 0x00100000 64bit]", "BARs of its VFs", False),
        ("pci 0000:82:00.0: VF BAR 0 [mem size 0x00100000 64bit]: can't assign; no space", "BARs of its VFs", False),
        ("pci 0000:80:03.0: BAR 13: no space for [io  size 0x1000]", "a window of the bridge", False),
        ("pcieport 0000:80:03.0: bridge window [io  size 0x1000]: can't assign; no space", "a window", False),
        ("pci 0000:00:1c.0: BAR 8: no space for [mem size 0x00200000]", "a window of the bridge", False),
        ("pci 0000:01:00.0: BAR 4: no space for [io  size 0x0080]", "no I/O space for its BAR", False),
    ],
)
def test_only_a_bar_of_a_device_is_short_of_room(resource: str, words: str, *, suspicious: bool) -> None:
    log = boot(*texts.negotiated(), *SCANNED, resource)
    explanation = explained(dmesg=log)
    assert shown(explanation, words)
    assert ("no room for its BAR " in " ".join(each.text for each in explanation.observations)) is suspicious
    assert explanation.is_suspicious is suspicious


def test_a_bar_that_is_assigned_after_all_is_no_matter() -> None:
    words = ("BAR 2: no space for [mem size 0x4000]", "BAR 2: assigned [mem 0xfb000000-0xfb003fff]")
    explanation = explained(dmesg=boot(*texts.negotiated(), *(f"pci 0000:01:00.0: {each}" for each in words)))
    assert explanation.observations == ()


HOST_ROOT_PORT = (
    "00:00.0 Host bridge [0600]: Intel Corporation DMI2 [8086:2f00] (rev 02)\n"
    "\tCapabilities: [90] Express (v2) Root Port (Slot-), MSI 00\n"
    "\tCapabilities: [148 v1] Advanced Error Reporting\n"
    "\t\tRootCmd: CERptEn- NFERptEn- FERptEn-\n\n"
)


def test_a_root_port_that_is_a_host_bridge_by_its_class_has_no_port_driver() -> None:
    explanation = explained(lspci=HOST_ROOT_PORT + texts.port("00:01.0").replace("Red Hat, Inc. QEMU", "Intel"))
    assert holders(explanation)[1] is LINUX
    assert explanation.observations == ()
    assert not explanation.is_suspicious


def test_a_plain_list_beside_one_verbose_function_shows_no_ports_to_be_missing() -> None:
    verbose = "01:00.0 VGA compatible controller: NVIDIA\n\tCapabilities: [78] Express Legacy Endpoint, MSI 00\n"
    listing = (
        "00:00.0 Host bridge [0600]: Intel [8086:0c08]\n00:1c.0 PCI bridge [0604]: Intel Root Port #1 [8086:8c10]\n"
        "01:00.0 VGA compatible controller [0300]: NVIDIA [10de:13ba]\n"
    )
    explanation = explained(lspci=f"lspci -v\n\n{verbose}\n____\nlspci -nn\n\n{listing}")
    assert holders(explanation) == (UNKNOWN, UNKNOWN, UNKNOWN)
    assert not explanation.is_suspicious


def test_the_processors_own_bus_has_no_osc_and_no_ports() -> None:
    log = boot(
        root(1, 0xFF, 0xFF),
        *bridge(ALL, "_OSC failed (AE_NOT_FOUND); disabling ASPM", hid="PNP0A03:00"),
        root(0, 0x00, 0xFE),
        *bridge(ALL, "_OSC: OS now controls [PCIeHotplug PME AER PCIeCapability]"),
        *texts.PORT_WORDS["4.18"],
    )
    explanation = explained(dmesg=log)
    assert not explanation.is_suspicious
    assert {row.holder for row in explanation.control if row.bridge.startswith("PNP0A03")} == {NOBODY}


def test_pnp0a03_with_ports_below_it_is_no_plain_host_bridge() -> None:
    words = bridge(ALL, "_OSC failed (AE_NOT_FOUND); disabling ASPM", hid="PNP0A03:00")
    log = boot(root(), *words, *SCANNED, "acpiphp: Slot [1] registered", "pcieport 0000:00:1c.0: irq 40 for MSI/MSI-X")
    ports = texts.port("00:1c.0", listens=False) + texts.port("00:1c.1", bus=2, listens=False)
    explanation = explained(dmesg=log, lspci=ports.replace("QEMU", "Intel").replace("Red Hat, Inc.", ""))
    assert holders(explanation) == (ACPI, PLATFORM, PLATFORM)
    assert names(explanation) == ["no _OSC method"]
    assert "ACPI serves at most 1 of them" in shown(explanation, "HPIrq-")


VMD = (
    root(),
    *bridge(ALL, "_OSC: platform does not support [PCIeHotplug AER]", "_OSC: OS now controls [PME PCIeCapability LTR]"),
    "vmd 0000:00:0e.0: PCI host bridge to bus 10000:e0",
    "pcieport 10000:e0:06.0: AER: enabled with IRQ 150",
    "pcieport 10000:e0:06.0: pciehp: Slot #6 AttnBtn- PwrCtrl- MRL- AttnInd- PwrInd- HotPlug+ Surprise+",
)


def test_a_domain_of_vmds_is_none_of_acpis() -> None:
    port = texts.port("00:06.0", listens=False, reports=False)
    lspci = port.replace("00:06.0", "10000:e0:06.0").replace("Red Hat, Inc. QEMU", "Intel")
    explanation = explained(dmesg=boot(*VMD), lspci=lspci)
    assert holders(explanation)[1:] == (PLATFORM, LINUX)
    outside = {row.service: row.holder for row in explanation.control if "10000" in row.bridge}
    assert outside == {"hot-plug": LINUX, "AER": LINUX}
    assert explanation.contradictions == ()
    assert not explanation.is_suspicious


@pytest.mark.parametrize(
    "words",
    [
        "pciehp 0000:06:01.0:pcie204: Timeout on hotplug command 0x1038 (issued 12 msec ago)",
        "pcieport 0000:05:01.0: pciehp: Slot(1): Card not present",
        "pci 0000:06:00.0: BAR 13: no space for [io  size 0x2000]",
    ],
)
def test_thunderbolt_does_what_it_does_without_alarm(words: str) -> None:
    assert not explained(dmesg=boot(*texts.negotiated(), *SCANNED, words)).is_suspicious


def test_a_slot_nobody_serves_is_no_alarm_on_hardware() -> None:
    lspci = texts.port("00:1c.0", listens=False, reports=False) + texts.disk()
    on_qemu = explained(lspci=texts.Q35_HOST + lspci)
    soldered = lspci.replace("Red Hat, Inc. ", "").replace("QEMU", "Intel").replace("Red Hat, Inc.", "Intel")
    on_hardware = explained(lspci="00:00.0 Host bridge: Intel\n\n" + soldered.replace("Virtio", "Atheros"))
    assert (holders(on_qemu)[0], holders(on_hardware)[0]) == (NOBODY, NOBODY)
    assert (on_qemu.is_suspicious, on_hardware.is_suspicious) == (True, False)


def test_a_card_that_sleeps_is_no_alarm_on_hardware() -> None:
    card = "01:00.0 VGA compatible controller: NVIDIA (rev ff)\n\t!!! Unknown header type 7f\n"
    explanation = explained(lspci=f"00:00.0 Host bridge: Intel\n\n{card}")
    assert "powered down" in shown(explanation, "0000:01:00.0")
    assert not explanation.is_suspicious


# ---- functions of VMs ----

PLAIN = (
    "00:00.0 Host bridge: Intel\n00:1c.0 PCI bridge: Intel Device 06bc (rev f0)\n"
    "02:00.0 Ethernet controller: Intel 82576\n02:10.0 Ethernet controller: Intel 82576 Virtual Function\n"
)
PASSED = (
    "02:10.0 Ethernet controller: Intel 82576 Virtual Function (rev 01)\n"
    "\tCapabilities: [a0] Express (v2) Endpoint, MSI 00\n\tKernel driver in use: vfio-pci\n"
)
HOST_LOG = texts.stamped(
    "pcieport 0000:00:1c.0: AER: Uncorrected (Non-Fatal) error received: 0000:02:00.0",
    "igb 0000:02:00.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer, (Requester ID)",
    "igb 0000:02:00.0:   device [8086:10c9] error status/mask=00004000/00000000",
    "pcieport 0000:00:1c.0: AER: device recovery successful",
)
QEMU_LOG = (
    "2024-05-07 09:12:00.118+0000: starting up libvirt version: 8.0.0, qemu version: 6.2.0\n"
    "2024-05-07T09:40:21.184213Z qemu-system-x86_64: vfio_err_notifier_handler(0000:02:10.0) Unrecoverable error "
    "detected. Please collect any data possible and then kill the guest\n"
)
CMDLINE = "root=/dev/sda1 ro pcie_ports=native intel_iommu=on iommu=pt"


def test_an_error_on_the_bus_of_a_vms_function_is_told_with_what_it_does_to_the_vm() -> None:
    explanation = explained(lspci=PLAIN, verbose=PASSED, dmesg=HOST_LOG, cmdline=CMDLINE)
    assert holders(explanation) == (LINUX, LINUX, LINUX)
    assert shown(explanation, "uncorrected (non-fatal) errors at 0000:02:00.0: CmpltTO")
    assert shown(explanation, "recovery successful")
    for words in ("0000:02:10.0", "vfio-pci", "pcie_do_recovery", "vfio_err_notifier_handler"):
        assert words in shown(explanation, "belongs to a VM")
    assert explanation.steps[0].command == f"testbed run {NEIGHBOUR_CASE}"
    assert explanation.is_suspicious


def test_the_functions_own_error_has_a_case_of_its_own() -> None:
    own = PASSED.replace("02:10.0", "02:00.0")
    assert explained(lspci=own, dmesg=HOST_LOG).steps[0].command == f"testbed run {OWN_CASE}"
    assert all((CASES / f"{name}.yaml").is_file() for name in (NEIGHBOUR_CASE, OWN_CASE))


def test_qemus_log_names_the_function_and_that_the_vm_was_stopped() -> None:
    explanation = explained(qemu=QEMU_LOG)
    assert "0000:02:10.0" in shown(explanation, "QEMU stopped the VM")
    assert explanation.is_suspicious
    both = explained(qemu=QEMU_LOG, other=QEMU_LOG.replace("02:10.0", "02:10.2"), dmesg=HOST_LOG)
    assert len([each for each in both.observations if "QEMU stopped the VM" in each.text]) == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            '-device {"driver": "vfio-pci", "id": "passed1", "bus": "rp1", "host": "0000:01:00.0"}: vfio 0000:01:00.0: '
            "failed to open /dev/vfio/5: Device or resource busy",
            "refused 0000:01:00.0: another process has /dev/vfio/5 open",
        ),
        (
            "-device vfio-pci,host=0000:01:00.0: vfio 0000:01:00.0: group 5 is not viable",
            "refused 0000:01:00.0: another function of IOMMU group 5",
        ),
        ('-device virtio-blk-pci,drive=d: Failed to get "write" lock', "a lock on a disk's image"),
        ('-device virtio-blk-pci,drive=d: Failed to get shared "write" lock', "a lock on a disk's image"),
    ],
)
def test_qemus_log_tells_who_is_in_the_way_of_a_vm(line: str, words: str) -> None:
    explanation = explained(qemu=f"qemu-system-x86_64: {line}\nPlease ensure all devices are bound to vfio\n")
    (told,) = [each for each in explanation.observations if words in each.text]
    assert (told.evidence, told.suspicious) == (("qemu:1",), True)


def test_a_function_on_vfio_pci_is_known_by_the_log_alone() -> None:
    lines = (
        "vfio-pci 0000:03:00.0: enabling device (0000 -> 0003)",
        "pcieport 0000:00:03.1: AER: Uncorrected (Fatal) error received: 0000:03:00.0",
        "vfio-pci 0000:03:00.0: AER: PCIe Bus Error: severity=Uncorrected (Fatal), type=Inaccessible",
    )
    explanation = explained(dmesg=texts.stamped(*lines))
    assert "0000:03:00.0" in shown(explanation, "belongs to a VM")
    assert explanation.steps[0].command == f"testbed run {OWN_CASE}"


@pytest.mark.parametrize(
    ("log", "lspci"),
    [
        (HOST_LOG.replace("0000:02:00.0", "0000:03:00.0"), PASSED),  # another bus
        (flood(3).replace("0000:01:00.0", "0000:02:00.0"), PASSED),  # corrected ones are told to no driver
        (HOST_LOG, PASSED.replace("vfio-pci", "igbvf")),
    ],
)
def test_a_function_that_is_not_concerned_is_not_told_of(log: str, lspci: str) -> None:
    explanation = explained(dmesg=log, lspci=lspci)
    assert not any("belongs to a VM" in each.text for each in explanation.observations)
