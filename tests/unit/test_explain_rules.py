"""What customers' files are explained to show: the options, the traps, other kernels' words, several bridges."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest

from testbed.campaign.setups import read_one_setup
from testbed.explain.explanation import Explanation, explain
from testbed.explain.holder import Holder
from testbed.explain.source import split_parts
from testbed.explain.suspect import Blame, without
from testbed.model.cmdline import CommandLine
from testbed.scenarios.scenario import all_scenarios

from . import explain_texts as texts
from .explain_texts import bridge, negotiated, refused, root

if TYPE_CHECKING:
    from testbed.explain.holder import Control

NOBODY, LINUX, ACPI, PLATFORM, UNKNOWN = Holder.NOBODY, Holder.LINUX, Holder.ACPI, Holder.PLATFORM, Holder.UNKNOWN


def explained(**files: str) -> Explanation:
    return explain([part for name, text in files.items() for part in split_parts(name, text.encode())])


def holders(explanation: Explanation) -> tuple[Holder, ...]:
    """Return who has hot-plug, AER and PME below the first host bridge."""
    rows = {row.service: row.holder for row in reversed(explanation.control)}
    return rows["hot-plug"], rows["AER"], rows["PME"]


def names(explanation: Explanation) -> list[str]:
    return [suspect.name for suspect in explanation.suspects]


def row(explanation: Explanation, service: str) -> Control:
    return next(each for each in explanation.control if each.service == service)


def said(explanation: Explanation) -> str:
    return "\n".join(each.text for each in (*explanation.contradictions, *explanation.observations))


def line_of(text: str, words: str) -> int:
    return next(number for number, line in enumerate(text.split("\n"), 1) if words in line)


def test_pcie_aspm_off_is_the_suspect_with_its_lines() -> None:
    log = texts.ASPM_OFF
    explanation = explained(dmesg=log, interrupts=texts.interrupts(texts.DISK_INTERRUPT))
    assert holders(explanation) == (NOBODY, PLATFORM, PLATFORM)
    (suspect,) = explanation.suspects
    assert (suspect.name, suspect.takes, suspect.seen) == ("pcie_aspm=off", ("hot-plug", "AER", "PME"), True)
    assert suspect.evidence == (
        f"dmesg:{line_of(log, 'Command line')}",
        f"dmesg:{line_of(log, 'OS supports')}",
        f"dmesg:{line_of(log, 'not requesting')}",
    )
    assert "lacks ASPM ClockPM" in row(explanation, "hot-plug").why
    assert "pciehp has no interrupt" in row(explanation, "hot-plug").why


@pytest.mark.parametrize(
    ("option", "log_words", "expected", "suspects"),
    [
        (
            "pci=nomsi,noats",
            refused("ExtendedConfig ASPM ClockPM Segments"),
            (NOBODY, PLATFORM, PLATFORM),
            ["pci=nomsi"],
        ),
        ("pci=nommconf", refused("ASPM ClockPM Segments MSI"), (NOBODY, PLATFORM, PLATFORM), ["pci=nommconf"]),
        ("pci=conf1", refused("ASPM ClockPM Segments MSI"), (NOBODY, PLATFORM, PLATFORM), ["pci=conf1"]),
        (
            "pcie_ports=compat",
            (
                root(),
                *bridge(
                    f"_OSC: OS supports [{texts.COMPLETE}]", "PCIe port services disabled; not requesting _OSC control"
                ),
            ),
            (NOBODY, PLATFORM, PLATFORM),
            ["pcie_ports=compat"],
        ),
        (
            "pcie_aspm=off pcie_ports=compat",
            (
                root(),
                *bridge(
                    "_OSC: OS supports [ExtendedConfig Segments MSI]",
                    "PCIe port services disabled; not requesting _OSC control",
                ),
            ),
            (NOBODY, PLATFORM, PLATFORM),
            ["pcie_ports=compat", "pcie_aspm=off"],
        ),
        (
            "pci=noaer",
            negotiated(got="PCIeHotplug SHPCHotplug PME PCIeCapability"),
            (LINUX, NOBODY, LINUX),
            ["pci=noaer"],
        ),
        (
            "acpiphp.disable=1",
            negotiated(lacks="PCIeHotplug LTR", got="SHPCHotplug PME AER PCIeCapability"),
            (NOBODY, LINUX, LINUX),
            ["acpiphp.disable=1"],
        ),
        (
            "initcall_blacklist=foo,pcie_portdrv_init",
            negotiated(),
            (NOBODY, PLATFORM, PLATFORM),
            ["initcall_blacklist=pcie_portdrv_init"],
        ),
        ("pcie_aspm=force pcie_pme=nomsi", negotiated(), (LINUX, LINUX, LINUX), []),
        ("pcie_aspm=off pcie_ports=native", refused("ExtendedConfig Segments MSI"), (LINUX, LINUX, LINUX), []),
        (
            "pcie_aspm=off",
            (*refused("ExtendedConfig Segments MSI"), "acpiphp: Slot [0] registered"),
            (ACPI, PLATFORM, PLATFORM),
            ["pcie_aspm=off"],
        ),
    ],
)
def test_each_option_costs_what_it_costs(
    option: str, log_words: tuple[str, ...], expected: tuple[Holder, ...], suspects: list[str]
) -> None:
    explanation = explained(dmesg=texts.boot(f"ro {option}", *log_words))
    assert holders(explanation) == expected
    assert names(explanation) == suspects
    assert explanation.is_suspicious == bool(suspects)


def test_hot_plug_by_acpi_loses_nothing_but_aer_and_pme_to_pcie_aspm_off() -> None:
    log = texts.boot("pcie_aspm=off", *refused("ExtendedConfig Segments MSI"), "acpiphp: Slot [0] registered")
    assert explained(dmesg=log).suspects[0].takes == ("AER", "PME")


def test_i440fx_prints_the_refusal_and_is_healthy() -> None:
    explanation = explained(dmesg=texts.I440FX, interrupts=texts.interrupts(texts.DISK_INTERRUPT))
    assert holders(explanation) == (ACPI, NOBODY, NOBODY)
    assert not explanation.is_suspicious
    assert "pcie_aspm=off is on the command line, but is not involved" in said(explanation)


def test_i440fx_loses_its_slots_with_acpiphp() -> None:
    log = texts.I440FX.replace("pcie_aspm=off", "acpiphp.disable=1")
    log = "".join(line for line in log.splitlines(keepends=True) if "registered" not in line)
    explanation = explained(dmesg=log)
    assert holders(explanation) == (NOBODY, NOBODY, NOBODY)
    assert [(each.name, each.seen) for each in explanation.suspects] == [("acpiphp.disable=1", True)]
    lspci = texts.I440FX_HOST + texts.disk("00:04.0", slot="4")
    assert names(explained(lspci=lspci, cmdline="ro acpiphp.disable=1")) == ["acpiphp.disable=1"]


def test_a_slots_name_does_not_prove_that_it_is_served() -> None:
    lspci = texts.Q35_HOST + texts.port(listens=False) + texts.disk(slot="0")
    explanation = explained(lspci=lspci, cmdline="ro acpiphp.disable=1")
    assert holders(explanation) == (NOBODY, LINUX, UNKNOWN)
    assert names(explanation) == ["acpiphp.disable=1"]


def test_a_pci_express_bridge_without_ecam_is_not_taken_for_i440fx() -> None:
    words = ("PCI: not using MMCONFIG", *refused("ASPM ClockPM Segments MSI"))
    explanation = explained(dmesg=texts.boot("ro", *words, dmi=texts.SERVER_DMI))
    (suspect,) = explanation.suspects
    assert (suspect.name, suspect.blame) == ("no usable ECAM", Blame.FIRMWARE)
    assert "dmesg:5" in suspect.evidence


def test_acpi_hot_plug_on_q35_is_normal() -> None:
    table = texts.interrupts("PCI-MSI 32768-edge      PCIe PME, aerdrv")
    lspci = texts.Q35_HOST + texts.port(listens=False) + texts.disk(slot="0")
    explanation = explained(dmesg=texts.ACPI, interrupts=table, lspci=lspci)
    assert holders(explanation) == (ACPI, LINUX, LINUX)
    assert "need not: ACPI serves the slots" in said(explanation)
    assert not explanation.is_suspicious


def test_native_ports_on_acpi_hot_plug_make_cards_vanish() -> None:
    log = texts.boot(
        "ro pcie_ports=native",
        *negotiated(lacks="PCIeHotplug LTR", got="SHPCHotplug PME AER PCIeCapability"),
        *texts.PORT_WORDS["6.1"],
        "pcieport 0000:00:02.0: pciehp: Slot(1): Card not present",
        "pcieport 0000:00:02.0: pciehp: Slot(1): Already disabled",
    )
    explanation = explained(dmesg=log, lspci=texts.Q35_HOST + texts.port() + texts.disk(revision="ff"))
    assert names(explanation) == ["pcie_ports=native"]
    assert f"dmesg:{line_of(log, 'Card not present')}" in explanation.suspects[0].evidence
    assert "0000:01:00.0: reads as all ones" in said(explanation)
    assert "disk-present --machine q35 -p hotplug=acpi" in explanation.steps[0].command


def test_native_ports_are_no_suspect_on_hardware_that_does_not_object() -> None:
    words = negotiated(lacks="PCIeHotplug LTR", got="PME AER PCIeCapability")
    log = texts.boot("pcie_ports=native", *words, *texts.PORT_WORDS["6.1"], dmi=texts.SERVER_DMI)
    assert not explained(dmesg=log).is_suspicious


@pytest.mark.parametrize("version", sorted(texts.PORT_WORDS))
def test_services_are_seen_in_the_words_of_each_kernel(version: str) -> None:
    log = texts.boot("ro", *negotiated(lacks=""), *texts.PORT_WORDS[version], version=f"{version}.0")
    explanation = explained(dmesg=log)
    assert holders(explanation) == (LINUX, LINUX, LINUX)
    for service in ("hot-plug", "AER", "PME"):
        assert "started on 1 port" in row(explanation, service).why
        assert len(row(explanation, service).evidence) == 2


@pytest.mark.parametrize(
    ("words", "expected", "suspects"),
    [
        # 3.2 to 3.11: masks instead of names
        (
            (" pci0000:00: Requesting ACPI _OSC control (0x1d)", " pci0000:00: ACPI _OSC control (0x1d) granted"),
            (LINUX, LINUX, LINUX),
            [],
        ),
        (
            (" pci0000:00: Requesting ACPI _OSC control (0x1d)", " pci0000:00: ACPI _OSC control (0x15) granted"),
            (LINUX, PLATFORM, LINUX),
            [],
        ),
        (
            (" pci0000:00: Unable to request _OSC control (_OSC support mask: 0x19)",),
            (NOBODY, PLATFORM, PLATFORM),
            ["pcie_aspm=off"],
        ),
        (
            (
                " pci0000:00: Requesting ACPI _OSC control (0x1d)",
                " pci0000:00: ACPI _OSC request failed (AE_SUPPORT), returned control mask: 0x00",
            ),
            (NOBODY, PLATFORM, PLATFORM),
            ["the firmware keeps PCIeCapability"],
        ),
        # up to 5.10
        (
            bridge(f"_OSC: OS supports [{texts.COMPLETE}]", "_OSC failed (AE_NOT_FOUND); disabling ASPM"),
            (NOBODY, PLATFORM, PLATFORM),
            ["no _OSC method"],
        ),
        # a firmware's own bug
        (
            bridge(
                f"_OSC: OS supports [{texts.COMPLETE}]",
                "_OSC: OS requested [PCIeHotplug SHPCHotplug PME AER PCIeCapability LTR]",
                "_OSC: platform willing to grant [PME PCIeCapability LTR]",
                "_OSC: platform retains control of PCIe features (AE_ALREADY_EXISTS)",
            ),
            (NOBODY, PLATFORM, PLATFORM),
            ["_OSC fails with AE_ALREADY_EXISTS"],
        ),
        (
            bridge("_OSC failed (AE_NOT_FOUND)", hid="PNP0A03:00"),
            (NOBODY, NOBODY, NOBODY),
            [],
        ),
        # up to 5.7: firmware first
        (
            bridge(
                f"_OSC: OS supports [{texts.COMPLETE}]",
                "PCIe AER handled by firmware",
                "_OSC: OS now controls [PCIeHotplug PME PCIeCapability]",
            ),
            (LINUX, PLATFORM, LINUX),
            [],
        ),
        # 6.x and 7.x on a machine with CXL
        (
            bridge(
                f"_OSC: OS supports [{texts.COMPLETE} EDR]",
                "_OSC: OS supports [CXL11PortRegAccess CXL20PortDevRegAccess CXLProtocolErrorReporting]",
                "_OSC: platform does not support [LTR DPC]",
                "_OSC: OS now controls [PCIeHotplug SHPCHotplug PME AER PCIeCapability]",
                "_OSC: OS now controls [CXLMemErrorReporting]",
                hid="ACPI0016:00",
            ),
            (LINUX, LINUX, LINUX),
            [],
        ),
    ],
)
def test_other_kernels_and_firmwares(words: tuple[str, ...], expected: tuple[Holder, ...], suspects: list[str]) -> None:
    explanation = explained(dmesg=texts.stamped("Linux version 3.10.0", "PCIe ASPM is disabled", *words, "NET: x"))
    assert holders(explanation) == expected
    assert names(explanation) == suspects


def test_each_host_bridge_is_told_apart() -> None:
    log = texts.boot(
        "ro",
        root(0, 0x00, 0x0F),
        *bridge(
            f"_OSC: OS supports [{texts.COMPLETE}]",
            "_OSC: platform does not support [PCIeHotplug LTR]",
            "_OSC: OS now controls [SHPCHotplug PME AER PCIeCapability]",
        ),
        "acpiphp: Slot [0] registered",
        root(1, 0x10, 0x20),
        *bridge(
            f"_OSC: OS supports [{texts.COMPLETE}]",
            "_OSC: OS now controls [PCIeHotplug PME AER PCIeCapability]",
            hid="PNP0A08:01",
        ),
        "pcieport 0000:10:00.0: pciehp: Slot #7 AttnBtn+ PwrCtrl+",
    )
    lspci = texts.Q35_HOST + texts.port(listens=False) + texts.port("10:00.0", slot=7, bus=0x11)
    explanation = explained(dmesg=log, lspci=lspci)
    hotplug = [(each.bridge, each.holder) for each in explanation.control if each.service == "hot-plug"]
    assert hotplug == [
        ("PNP0A08:00 PCI0, bus 0000:00-0f", ACPI),
        ("PNP0A08:01 PCI1, bus 0000:10-20", LINUX),
    ]
    assert "started on 1 port; HPIrq+ on 1 port" in explanation.control[-3].why
    assert not explanation.is_suspicious


def test_without_a_log_the_interrupts_and_registers_speak() -> None:
    table = texts.interrupts(texts.PORT_INTERRUPT)
    assert holders(explained(interrupts=table)) == (LINUX, LINUX, LINUX)
    lspci = texts.Q35_HOST + texts.port() + texts.disk()
    assert holders(explained(lspci=lspci)) == (LINUX, LINUX, UNKNOWN)
    acpi = texts.Q35_HOST + texts.port(listens=False) + texts.disk(slot="0")
    assert holders(explained(lspci=acpi)) == (ACPI, LINUX, UNKNOWN)
    deaf = texts.Q35_HOST + texts.port(listens=False, reports=False, driver=False) + texts.disk()
    explanation = explained(lspci=deaf)
    assert holders(explanation) == (NOBODY, PLATFORM, UNKNOWN)
    for words in ("pciehp does not listen", "no driver is bound to the port", "AER is present but not enabled"):
        assert words in said(explanation)


def test_rows_cut_out_of_the_interrupts_prove_nothing_by_what_they_lack() -> None:
    assert "no interrupt" in row(explained(interrupts=texts.interrupts(texts.DISK_INTERRUPT)), "AER").why
    cut = " 24:          1   PCI-MSI 32768-edge      PCIe PME, pciehp\n"
    explanation = explained(interrupts=cut)
    assert holders(explanation) == (LINUX, UNKNOWN, LINUX)
    assert row(explanation, "AER").why == "none of these files shows it"


def test_one_function_of_lspci_does_not_prove_that_there_is_no_port() -> None:
    assert row(explained(lspci=texts.disk()), "hot-plug").why == "none of these files shows it"
    whole = explained(lspci=texts.I440FX_HOST + texts.disk("00:04.0", slot="4"))
    assert holders(whole) == (ACPI, NOBODY, NOBODY)
    assert not whole.is_suspicious


def test_a_command_line_alone_names_what_its_options_are_known_to_do() -> None:
    explanation = explained(cmdline="ro quiet pcie_aspm=off pci=noaer")
    assert [(each.name, each.seen, each.takes) for each in explanation.suspects] == [
        ("pcie_aspm=off", False, ("hot-plug", "AER", "PME")),
        ("pci=noaer", False, ("AER",)),
    ]
    assert explained(cmdline="ro quiet pcie_aspm=off pcie_ports=native").suspects == ()
    assert any("journalctl -k" in step.command for step in explanation.steps)


def test_acpi_off_leaves_hot_plug_to_linux_and_aer_to_nobody() -> None:
    log = texts.boot("acpi=off", "PCI host bridge to bus 0000:00", *texts.PORT_WORDS["6.1"][0::2])
    explanation = explained(dmesg=log)
    assert holders(explanation) == (LINUX, NOBODY, LINUX)
    assert names(explanation) == ["acpi=off"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"dmesg": texts.ASPM_OFF, "cmdline": "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet\n"},
            "only the log has pcie_aspm=off",
        ),
        (
            {"dmesg": texts.NATIVE, "cmdline": "root=/dev/vda1 ro quiet splash"},
            "only /proc/cmdline has splash",
        ),
        ({"dmesg": texts.NATIVE, "cmdline": "root=/dev/vda1 quiet ro"}, "the order differs"),
        ({"dmesg": texts.NATIVE, "lspci": texts.I440FX_HOST}, "lspci is from i440fx, the log from q35"),
        (
            {"dmesg": texts.ASPM_OFF, "interrupts": texts.interrupts(texts.PORT_INTERRUPT)},
            "hot-plug: the log says that Linux has no control, yet pciehp has 1 interrupt",
        ),
        (
            {"dmesg": texts.NATIVE, "interrupts": texts.interrupts(texts.DISK_INTERRUPT)},
            "hot-plug: pciehp started on 1 port, yet pciehp has no interrupt",
        ),
    ],
)
def test_contradictions_between_files_are_told_with_both_lines(files: dict[str, str], words: str) -> None:
    explanation = explained(**files)
    (found, *_) = [each for each in explanation.contradictions if words in each.text]
    assert found.suspicious
    assert explanation.is_suspicious
    assert {place.partition(":")[0] for place in found.evidence} <= set(files)


def test_files_that_agree_contradict_nothing() -> None:
    files = {
        "dmesg": texts.NATIVE,
        "cmdline": "root=/dev/vda1 ro quiet\n",
        "interrupts": texts.interrupts(texts.PORT_INTERRUPT),
        "lspci": texts.Q35_HOST + texts.port() + texts.disk(),
    }
    explanation = explained(**files)
    assert explanation.contradictions == ()
    assert not explanation.is_suspicious


def test_a_command_line_that_the_log_cuts_off_is_no_contradiction() -> None:
    line = "ro " + " ".join(f"option{number}=value" for number in range(80))
    log = texts.boot(line[:1000], *negotiated())
    assert explained(dmesg=log, cmdline=line).contradictions == ()


def test_a_polled_slot_needs_no_interrupt() -> None:
    log = texts.boot("pciehp.pciehp_poll_mode=1", *negotiated(), *texts.PORT_WORDS["6.1"])
    lspci = texts.Q35_HOST + texts.port(listens=False)
    explanation = explained(dmesg=log, lspci=lspci, interrupts=texts.interrupts("PCI-MSI x-edge PCIe PME, aerdrv"))
    assert not explanation.is_suspicious


@pytest.mark.parametrize(
    ("message", "words", "suspicious"),
    [
        ("pciehp 0000:00:02.0:pcie004: Slot(1): No adapter", "a healthy guest: QEMU before 4.0", False),
        ("pciehp 0000:00:02.0:pcie004: Slot(1): Already disabled", "Slot(1): pciehp believes the slot", False),
        ("shpchp 0000:00:03.0: Cannot get control of SHPC hotplug", "0000:00:03.0: shpchp got no control", False),
        (
            "pci 0000:01:00.2: AER: can't recover (no error_detected callback)",
            "0000:01:00.2: has no driver, or one without error recovery",
            True,
        ),
        ("pcieport 0000:00:02.0: AER: device recovery failed", "whose beginning is not in the log: failed", True),
        (
            "pcieport 0000:00:02.0: Data Link Layer Link Active not set in 100 msec",
            "its link is not reported up",
            True,
        ),
        (
            "caller map_bar+0x38/0x44 [bar_mapper] mapping multiple BARs",
            "map_bar+0x38/0x44 [bar_mapper]: a driver mapped more than the BAR",
            False,
        ),
        ("caller pci_map_rom+0x6a/0x1b0 mapping multiple BARs", "pci_map_rom+0x6a/0x1b0: a driver mapped", False),
        ("pci 0000:01:00.0: BAR 2 [mem size 0x00004000 64bit]: can't assign; no space", "no room for its BAR", True),
        ("pci 0000:01:00.0: BAR 2: no space for [mem size 0x00004000]", "no room for its BAR", True),
        ("ACPI FADT declares the system doesn't support PCIe ASPM, so disable it", "costs no _OSC bit", False),
        ("Kernel panic - not syncing: Fatal exception", "the guest was in trouble (panic)", True),
    ],
)
def test_other_words_of_the_kernel_are_read(message: str, words: str, suspicious: bool) -> None:
    log = texts.boot("ro", *negotiated(), *texts.PORT_WORDS["6.1"], message)
    explanation = explained(dmesg=log)
    (found,) = [each for each in explanation.observations if words in each.text]
    assert found.evidence == (f"dmesg:{line_of(log, message)}",)
    assert (found.suspicious, explanation.is_suspicious) == (suspicious, suspicious)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (texts.stamped(*negotiated()), "does not start at the beginning of the boot"),
        (texts.NATIVE + texts.NATIVE, "the log holds 2 boots"),
        (texts.boot("ro quiet", "x"), "no line about _OSC: with quiet"),
        (texts.boot("ro", "x"), "no line about _OSC"),
    ],
)
def test_what_a_log_cannot_tell_is_said(text: str, words: str) -> None:
    assert words in said(explained(dmesg=text))


def test_capabilities_that_lspci_could_not_read_are_asked_for() -> None:
    denied = "00:02.0 PCI bridge: Red Hat, Inc.\n\tCapabilities: <access denied>\n\tKernel driver in use: pcieport\n"
    explanation = explained(lspci=denied)
    assert "run it as root" in said(explanation)
    assert any("sudo lspci -vvv" in step.command for step in explanation.steps)


def test_several_outputs_of_lspci_are_one_tree() -> None:
    numbers = "00:00.0 Host bridge [0600]: Intel [8086:29c0]\n00:02.0 PCI bridge [0604]: Red Hat [1b36:000c]\n"
    explanation = explained(a=texts.Q35_HOST + texts.port(), b=numbers, c="-[0000:00]-+-00.0\n")
    assert row(explanation, "hot-plug").evidence == (f"a:{line_of(texts.Q35_HOST + texts.port(), 'SltCtl')}",)


@pytest.mark.parametrize(
    "files",
    [
        {"dmesg": texts.ASPM_OFF},
        {"dmesg": texts.ACPI.replace("quiet", "acpiphp.disable=1").replace("acpiphp: ", "")},
        {"dmesg": texts.ACPI.replace("quiet", "pcie_ports=native")},
        {"cmdline": 'ro dyndbg="file a.c +p" pci=nomsi,noaer -- single'},
    ],
)
def test_commands_to_try_are_ones_that_the_bed_takes(files: dict[str, str]) -> None:
    commands = [step.command for step in explained(**files).steps if step.command.startswith("testbed ")]
    assert commands
    for command in commands:
        _, verb, scenario, *rest = shlex.split(command)
        options = dict(zip(rest[::2], rest[1::2], strict=True))
        assert verb in ("run", "bisect")
        assert scenario in all_scenarios()
        read_one_setup(options["--machine"], [options["-p"]])
        CommandLine(options["--cmdline"]).check()


@pytest.mark.parametrize(
    ("line", "names", "rest"),
    [
        ("ro  pcie_aspm=off quiet", ["pcie_aspm=off"], "ro quiet"),
        ("pcie-aspm=off", ["pcie_aspm=off"], ""),
        ("pci=nomsi,noaer pci=nomsi", ["pci=nomsi"], "pci=noaer"),
        ('dyndbg="file a.c +p" pci=noaer -- pci=noaer', ["pci=noaer"], 'dyndbg="file a.c +p" -- pci=noaer'),
        ("quiet", ["pci=noaer"], "quiet"),
    ],
)
def test_options_are_taken_out_of_a_line(line: str, names: list[str], rest: str) -> None:
    assert without(CommandLine(line), names) == rest


@pytest.mark.parametrize("files", [{"d": texts.ASPM_OFF}, {"d": texts.NATIVE}, {"d": texts.ACPI}, {"d": texts.I440FX}])
def test_every_statement_names_lines_that_exist(files: dict[str, str]) -> None:
    explanation = explained(**files)
    count = files["d"].count("\n")
    cited = [each.evidence for each in (*explanation.subject, *explanation.observations)]
    cited += [each.evidence for each in explanation.control] + [each.evidence for each in explanation.suspects]
    for places in cited:
        assert places
        for place in places:
            assert re.fullmatch(r"d:[0-9]+(-[0-9]+)?", place)
            assert 1 <= int(place.split(":")[1].split("-")[0]) <= count
