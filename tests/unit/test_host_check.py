"""The check list for passing a function through: what is said of each item, on which line, and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.explain.check import Answer
from testbed.explain.evidence import gather
from testbed.explain.explanation import explain
from testbed.explain.host_check import check_host
from testbed.explain.source import Kind, split_parts
from testbed.model.errors import InputError
from testbed.model.pci import Bdf

from . import explain_texts as texts

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.explain.check import Check

PF = "0000:3b:00.0"
TABLE = "ACPI: DMAR 0x000000007FFE2108 000078 (v01 CONTOS SERVER   00000001 INTL 00000001)"
REMAPS = "DMAR-IR: Enabled IRQ remapping in x2apic mode"
GROUPS = ("pci 0000:00:01.0: Adding to iommu group 7", f"pci {PF}: Adding to iommu group 32")
ACS_ON = "SrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-"


def port(acs: str = ACS_ON) -> str:
    control = f"\t\tACSCtl:\t{acs}\n" if acs else ""
    return (
        "00:01.0 PCI bridge: Contoso Root Port (prog-if 00 [Normal decode])\n"
        "\tBus: primary=00, secondary=3b, subordinate=3b, sec-latency=0\n"
        f"\tCapabilities: [40] Express (v2) Root Port (Slot+), MSI 00\n{control}\n"
    )


def card(*, total: int = 8, region: str = "Memory at 00000000c0800000 (64-bit, non-prefetchable)") -> str:
    return (
        "3b:00.0 Ethernet controller: Contoso Server Adapter\n"
        "\tCapabilities: [40] Power Management version 3\n"
        "\t\tStatus: D0 NoSoftRst+ PME-Enable-\n"
        "\tCapabilities: [70] Express (v2) Endpoint, MSI 00\n"
        "\t\tDevCap:\tMaxPayload 512 bytes, PhantFunc 0\n"
        "\t\t\tExtTag- AttnBtn- AttnInd- PwrInd- RBE+ FLReset+ SlotPowerLimit 75W\n"
        "\tCapabilities: [160 v1] Single Root I/O Virtualization (SR-IOV)\n"
        f"\t\tInitial VFs: {total}, Total VFs: {total}, Number of VFs: 0, Function Dependency Link: 00\n"
        f"\t\tRegion 0: {region}\n"
        "\tCapabilities: [1a0 v1] Transaction Processing Hints\n"
        "\tKernel driver in use: ice\n\n"
    )


def checks(*contents: str, function: str = PF) -> dict[str, Check]:
    """Return the check list that files give, by item."""
    parts = [part for number, text in enumerate(contents) for part in split_parts(f"f{number}", text.encode())]
    return {check.item: check for check in check_host(gather(parts), Bdf.parse(function))}


def log(*messages: str, cmdline: str = "ro intel_iommu=on") -> str:
    return texts.boot(cmdline, *messages, texts.root(), "PCI host bridge to bus 0000:00", dmi=texts.SERVER_DMI)


def test_a_host_that_has_everything_is_told_with_its_lines() -> None:
    found = checks(log(TABLE, REMAPS, *GROUPS), texts.Q35_HOST + port() + card(), f"{HEAD}vfio_pci 16384 0\n")
    assert {check.answer for check in found.values()} == {Answer.YES}
    assert found["IOMMU in use"].evidence == ("f0:8",)
    assert found["a group of its own"].why == "nothing else is in group 32"
    assert found["a reset of its own"].why == "FLReset+"
    assert found["vfio-pci"].why == "the module is loaded; 0000:3b:00.0 belongs to ice"


HEAD = "Module                  Size  Used by\n"


@pytest.mark.parametrize(
    ("messages", "cmdline", "why", "remedy"),
    [
        ((), "ro", "the firmware describes no IOMMU", "firmware setup"),
        ((TABLE,), "ro", "Linux put no device into an IOMMU group", "intel_iommu=on"),
        ((TABLE,), "ro intel_iommu=on,sm_on iommu=off", "iommu=off is on the command line", "without iommu=off"),
    ],
)
def test_an_iommu_that_is_not_used_is_told_with_what_to_do(
    messages: tuple[str, ...], cmdline: str, why: str, remedy: str
) -> None:
    check = checks(log(*messages, cmdline=cmdline))["IOMMU in use"]
    assert check.answer is Answer.NO
    assert why in check.why
    assert remedy in check.remedy


def test_an_excerpt_proves_no_absence() -> None:
    found = checks(texts.stamped(f"ice {PF}: firmware loaded", *texts.PORT_WORDS["6.1"]))
    assert {found[item].answer for item in ("IOMMU in use", "interrupt remapping", "a group of its own")} == {
        Answer.UNKNOWN
    }


@pytest.mark.parametrize(
    ("contents", "answer", "why"),
    [
        ((log("AMD-Vi: Interrupt remapping enabled"),), Answer.YES, "AMD-Vi: Interrupt remapping enabled"),
        ((texts.interrupts("IR-PCI-MSIX-0000:3b:00.0 0-edge ice"),), Answer.YES, "(IR-)"),
        ((texts.interrupts(texts.DISK_INTERRUPT),), Answer.NO, "(no IR-)"),
        ((log(TABLE, *GROUPS, cmdline="ro nointremap"),), Answer.NO, "nointremap is on the command line"),
        ((log(TABLE, *GROUPS),), Answer.NO, "whole boot"),
        (
            (texts.stamped("vfio_iommu_type1_attach_group: No interrupt remapping support.  Use the module param"),),
            Answer.NO,
            "No interrupt remapping support",
        ),
    ],
)
def test_interrupt_remapping_is_known_by_the_log_or_by_the_interrupts(
    contents: tuple[str, ...], answer: Answer, why: str
) -> None:
    check = checks(*contents)["interrupt remapping"]
    assert check.answer is answer
    assert why in check.why
    assert check.evidence


def test_a_group_with_others_is_no_and_bridges_do_not_count() -> None:
    with_bridge = "/sys/kernel/iommu_groups/32/devices/0000:00:01.0\n/sys/kernel/iommu_groups/32/devices/0000:3b:00.0\n"
    lspci = texts.Q35_HOST + port() + card()
    assert checks(with_bridge, lspci)["a group of its own"].answer is Answer.YES
    with_other = with_bridge + "/sys/kernel/iommu_groups/32/devices/0000:3b:00.1\n"
    check = checks(with_other, lspci)["a group of its own"]
    assert (check.answer, check.why) == (Answer.NO, "group 32 has 0000:3b:00.1 as well")
    assert check.evidence == ("f0:2", "f0:3")


@pytest.mark.parametrize(
    ("acs", "why"), [("", "0000:00:01.0 has none"), (ACS_ON.replace("ReqRedir+", "ReqRedir-"), "ReqRedir-")]
)
def test_a_port_without_acs_is_named(acs: str, why: str) -> None:
    check = checks(texts.Q35_HOST + port(acs) + card())["ACS in the ports above"]
    assert check.answer is Answer.NO
    assert why in check.why


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (f"ice {PF}: not enough MMIO resources for SR-IOV", "not enough MMIO"),
        (f"ice {PF}: SR-IOV: bus number out of range", "bus number"),
        (f"pci {PF}: VF BAR 0 [mem size 0x00020000 64bit]: can't assign; no space", "no space"),
        (f"pci {PF}: BAR 7: no space for [mem size 0x00020000 64bit]", "no space"),
    ],
)
def test_no_room_for_the_vfs_is_told_in_the_kernels_words(message: str, words: str) -> None:
    check = checks(log(TABLE, *GROUPS, message), texts.Q35_HOST + port() + card())["room for the VFs"]
    assert check.answer is Answer.NO
    assert words in check.why
    assert check.remedy


def test_unassigned_vf_bars_are_told_by_lspci_alone() -> None:
    lspci = texts.Q35_HOST + port() + card(region="Memory at <unassigned> (64-bit, non-prefetchable)")
    assert checks(lspci)["room for the VFs"].answer is Answer.NO


def test_a_pf_keeps_its_driver_for_its_vfs() -> None:
    modules = f"{HEAD}vfio_pci 16384 0\n"
    disk = checks(texts.Q35_HOST + port() + texts.disk("3b:00.0"), modules)["vfio-pci"].remedy
    assert "VF" not in disk
    assert "leave it with ice" in checks(texts.Q35_HOST + port() + card(), modules)["vfio-pci"].remedy
    assert checks(texts.Q35_HOST + port() + card(total=0), modules)["vfio-pci"].remedy.startswith("unbind it")


def test_a_kernel_that_lacked_room_has_seen_the_capability() -> None:
    found = checks(f"[    1.000000] {REMAPS}\n[    9.000000] ice {PF}: not enough MMIO resources for SR-IOV\n")
    assert (found["SR-IOV"].answer, found["room for the VFs"].answer) == (Answer.UNKNOWN, Answer.NO)
    assert "Above 4G Decoding" in found["room for the VFs"].remedy


def test_a_card_without_sr_iov_needs_none() -> None:
    found = checks(texts.Q35_HOST + port() + texts.disk("3b:00.0"))
    assert found["SR-IOV"].answer is Answer.IDLE
    assert "room for the VFs" not in found


def test_memory_that_the_firmware_keeps_is_told() -> None:
    words = f"vfio-pci {PF}: Device is ineligible for IOMMU domain attach due to platform RMRR requirement."
    check = checks(log(TABLE, *GROUPS, words))["no memory reserved by the firmware"]
    assert check.answer is Answer.NO
    assert "RMRR" in check.why


@pytest.mark.parametrize(
    ("methods", "answer", "why"),
    [("flr bus", Answer.YES, "flr bus"), ("bus", Answer.YES, "all that is on its bus"), ("", Answer.NO, "none")],
)
def test_the_resets_are_those_that_linux_has_for_it(methods: str, answer: Answer, why: str) -> None:
    check = checks(f"/sys/bus/pci/devices/{PF}/reset_method:{methods}\n/sys/bus/pci/devices/{PF}/vendor:0x8086\n")[
        "a reset of its own"
    ]
    assert check.answer is answer
    assert why in check.why


def test_a_function_that_lspci_does_not_list_is_wrong_input() -> None:
    with pytest.raises(InputError, match="lspci does not list it"):
        checks(texts.Q35_HOST + port() + card(), function="0000:44:00.0")


@pytest.mark.parametrize(
    "content",
    [card(), log(*GROUPS), f"/sys/kernel/iommu_groups/3/devices/{PF}\n"],
    ids=["an excerpt of lspci", "a log", "sysfs"],
)
def test_so_is_one_that_no_file_names_where_they_name_others(content: str) -> None:
    with pytest.raises(InputError, match="none of the files names it") as refused:
        checks(content, function="0000:44:00.0")
    assert PF in str(refused.value.hint)
    assert checks(content)


def test_files_that_name_no_function_are_checked_for_the_host() -> None:
    assert checks("BOOT_IMAGE=/vmlinuz ro intel_iommu=off\n")["IOMMU in use"].answer is Answer.NO


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("/sys/kernel/iommu_groups/3/devices/0000:01:00.0\n", Kind.SYSFS),
        (
            "lrwxrwxrwx 1 root root 0 Aug  1 10:00 0000:01:00.0/iommu_group -> ../../../kernel/iommu_groups/3\n",
            Kind.SYSFS,
        ),
        (f"{HEAD}vfio_pci               16384  0 - extra\n", Kind.MODULES),
        ("vfio_pci 16384 0 - Live 0x0000000000000000\n", Kind.MODULES),
    ],
)
def test_what_a_file_is_is_told_by_its_lines(text: str, kind: Kind) -> None:
    assert [part.kind for part in split_parts("f", text.encode())] == [kind]


_LINES = st.lists(
    st.sampled_from(
        [TABLE, REMAPS, *GROUPS, HEAD.strip(), "vfio_pci 16384 0", f"/sys/bus/pci/devices/{PF}/sriov_totalvfs:x\x1b["]
    )
    | st.text(max_size=60),
    min_size=1,
    max_size=12,
)


@given(_LINES)
def test_no_lines_raise_anything_but_a_refusal(lines: list[str]) -> None:
    try:
        found = checks("\n".join(lines) + "\n")
    except InputError:
        return
    assert all(check.evidence or check.answer in (Answer.UNKNOWN, Answer.IDLE) for check in found.values())


def _explain(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "testbed", "explain", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_command_prints_the_list_and_its_exit_code_is_the_worst_answer(tmp_path: Path) -> None:
    (tmp_path / "dmesg").write_text(log(TABLE, REMAPS, *GROUPS))
    (tmp_path / "lspci").write_text(texts.Q35_HOST + port() + card())
    (tmp_path / "lsmod").write_text(f"{HEAD}kvm 1 1\n")
    lacking = _explain(tmp_path, "dmesg", "lspci", "lsmod", "--passthrough", "3b:00.0")
    assert lacking.returncode == 1
    assert "modprobe vfio-pci" in lacking.stdout
    whole = _explain(tmp_path, "dmesg", "lspci", "--passthrough", "3b:00.0", "--json")
    assert whole.returncode == 125, "nobody gave lsmod"
    found = json.loads(whole.stdout)
    assert (found["function"], found["checks"][0]["answer"]) == (PF, "yes")
    (tmp_path / "lsmod").write_text(f"{HEAD}vfio_pci 1 0\nvfio_iommu_type1 1 0\n")
    able = _explain(tmp_path, "dmesg", "lspci", "lsmod", "--passthrough", "3b:00.0", "--json")
    assert {check["answer"] for check in json.loads(able.stdout)["checks"]} <= {"yes", "not needed"}
    assert able.returncode == 0
    wrong = _explain(tmp_path, "dmesg", "--passthrough", "eth0")
    assert wrong.returncode == 2
    assert "--passthrough 'eth0' is not a PCI address" in wrong.stderr


def test_vfs_that_were_asked_for_and_got_no_room_are_suspicious() -> None:
    log = f"[    1.000000] {REMAPS}\n[    9.000000] ice {PF}: not enough MMIO resources for SR-IOV\n"
    found = explain(split_parts("dmesg", log.encode()))
    (said,) = [each for each in found.observations if each.suspicious]
    assert PF in said.text
    assert "pci=realloc" in said.text
    assert any(step.command.endswith(f"--passthrough {PF}") for step in found.steps)


def test_interrupts_are_not_made_unsafe_before_the_iommu_is_used() -> None:
    unused = "[    0.000000] Linux version 6.1.0 (a@b) #1 SMP\n[    1.000000] No interrupt remapping support\n"
    used = unused + f"[    2.000000] {GROUPS[1]}\n"
    first, then = (checks(text)["interrupt remapping"].remedy for text in (unused, used))
    assert first.endswith(then)
    assert "IOMMU into use first" in first
    assert then.startswith("vfio_iommu_type1.allow_unsafe_interrupts=1")
