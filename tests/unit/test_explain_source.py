"""What a file is taken for: told by content, whatever wrote it, and refused by name where it is nothing of use."""

from __future__ import annotations

import contextlib
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.explain.explanation import explain
from testbed.explain.kernel_log import read_log
from testbed.explain.source import MAX_BYTES, Kind, split_parts
from testbed.model.errors import InputError
from testbed.model.log_line import LogLine, read_line

from . import explain_texts as texts

MESSAGE = "acpi PNP0A08:00: _OSC: OS supports [ExtendedConfig Segments MSI]"
WHOLE_LSPCI = texts.Q35_HOST + texts.port() + texts.disk()


def kinds(text: str) -> list[Kind]:
    return [part.kind for part in split_parts("f", text.encode())]


@pytest.mark.parametrize(
    ("form", "seconds", "stamp"),
    [
        ("[    0.857719] {}", 0.857719, "[    0.857719]"),
        ("[12345.857719] {}", 12345.857719, "[12345.857719]"),
        ("<6>[    0.857719] {}", 0.857719, "[    0.857719]"),
        ("[    0.857719][    T1] {}", 0.857719, "[    0.857719]"),
        ("[    0.857719] [    T1] {}", 0.857719, "[    0.857719]"),
        ("kern  :info  : [    0.857719] {}", 0.857719, "[    0.857719]"),
        ("6,178,857719,-;{}", 0.857719, "[    0.857719]"),
        ("[Sat Nov 21 12:36:51 2026] {}", 0.0, "[Sat Nov 21 12:36:51 2026]"),
        ("[Nov21 12:36] {}", 0.0, "[Nov21 12:36]"),
        ("[  +0.000123] {}", 0.0, "[  +0.000123]"),
        ("2026-11-21T12:36:51,857719+00:00 {}", 0.0, "2026-11-21T12:36:51,857719+00:00"),
        ("Nov 21 12:36:51 web-1 kernel: {}", 0.0, "Nov 21 12:36:51"),
        ("Nov  1 12:36:51 web-1 kernel: [    0.857719] {}", 0.857719, "Nov  1 12:36:51"),
        ("2026-11-21T12:36:51.857719+01:00 web-1 kernel: {}", 0.0, "2026-11-21T12:36:51.857719+01:00"),
        ("2026-11-21T12:36:51+0000 web-1.example kernel: {}", 0.0, "2026-11-21T12:36:51+0000"),
        ("[    0.857719] web-1 kernel: {}", 0.857719, "[    0.857719]"),
        # in other languages: strftime's %a and %b
        ("[Di Mai  7 09:12:00 2024] {}", 0.0, "[Di Mai  7 09:12:00 2024]"),
        ("[mar. mai  7 09:12:00 2024] {}", 0.0, "[mar. mai  7 09:12:00 2024]"),
        ("[二 5月  7 09:12:00 2024] {}", 0.0, "[二 5月  7 09:12:00 2024]"),
        ("[5月  7 09:12] {}", 0.0, "[5月  7 09:12]"),
        ("déc. 12 19:58:03 host kernel: {}", 0.0, "déc. 12 19:58:03"),
        ("мая 07 09:12:00 host kernel: {}", 0.0, "мая 07 09:12:00"),
        ("11月 07 09:12:00 host kernel: {}", 0.0, "11月 07 09:12:00"),
        ("7. Mai 09:12:00 host kernel: {}", 0.0, "7. Mai 09:12:00"),
        # journalctl -o short-full, short-unix, short-monotonic, short-delta; OpenWrt's logread
        ("mar. 2024-05-07 09:12:00 CEST host kernel: {}", 0.0, "mar. 2024-05-07 09:12:00 CEST"),
        ("1715073120.000001 host kernel: {}", 0.0, "1715073120.000001"),
        ("[    0.123456 <    0.000012 >] host kernel: {}", 0.0, "[    0.123456 <    0.000012 >]"),
        ("Thu Jan  1 00:00:07 2024 kern.info kernel: {}", 0.0, "Thu Jan  1 00:00:07 2024"),
    ],
)
def test_every_way_to_save_a_kernel_log_is_read(form: str, seconds: float, stamp: str) -> None:
    read = read_line(form.format(MESSAGE))
    assert read == LogLine(text=MESSAGE, seconds=seconds, stamp=stamp)
    assert kinds(form.format(MESSAGE)) == [Kind.LOG]


#: what a mail, a shell and a container make of a log, and of lspci's output
WRAPPED = {
    "quote": "> {}",
    "deep quote": "> >> {}",
    "indent": "    {}",
    "grep -n": "37:{}",
    "grep -nH": "/var/log/kern.log:37:{}",
    "docker": "2024-05-07T09:12:00.123450001Z {}",
    "compose": "guest-1  | {}",
    "tio": "[09:12:00.123] {}",
}


@pytest.mark.parametrize("name", sorted(WRAPPED))
@pytest.mark.parametrize("text", [texts.ASPM_OFF, texts.Q35_HOST + texts.port() + texts.disk()], ids=["log", "lspci"])
def test_a_pasted_file_is_explained_like_the_file_itself(name: str, text: str) -> None:
    pasted = "See below:\n\n" + "".join(f"{WRAPPED[name].format(line)}\n" for line in text.splitlines()) + "\nWhy?\n"
    plain, found = (explain(split_parts("f", each.encode())) for each in ("a\n\n" + text, pasted))
    assert found == plain


@pytest.mark.parametrize("end", ["\n", "=\n"])
def test_what_a_mail_program_wraps_is_one_line(end: str) -> None:
    whole = "[    0.384684] acpi PNP0A08:00: _OSC: OS supports [ExtendedConfig ASPM ClockPM Segments MSI HPX-Type3]"
    at = whole.index(" ClockPM") + (1 if end == "=\n" else 0)
    (part,) = split_parts("f", f"> {whole[:at]}{end}> {whole[at:].lstrip()}\n> [    0.4] x\n".encode())
    assert part.lines[0].text == whole


def test_a_wrapped_command_line_is_whole() -> None:
    mail = (
        "> [    0.000000] Command line: BOOT_IMAGE=/boot/vmlinuz-6.1.0 root=/dev/sda1\n> ro quiet\n> pcie_aspm=off\n"
        "> [    0.031190] PCIe ASPM is disabled\n"
    )
    (part,) = split_parts("f", mail.encode())
    assert read_log(part).cmdline[0] == "BOOT_IMAGE=/boot/vmlinuz-6.1.0 root=/dev/sda1 ro quiet pcie_aspm=off"


@pytest.mark.parametrize(
    "line",
    [
        "Nov 21 12:36:51 web-1 sshd[123]: Accepted publickey",
        "2026-11-21T12:36:51.857719+01:00 web-1 systemd[1]: Started",
        "[    12.345] (II) Module fb: vendor=X.Org",
        "2026-11-21 12:36:51,123 INFO kernel started",
        "[section]",
    ],
)
def test_other_programs_lines_are_no_kernel_log(line: str) -> None:
    with pytest.raises(InputError):
        kinds(line)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (texts.ASPM_OFF, Kind.LOG),
        (texts.ASPM_OFF.replace("\n", "\r\n"), Kind.LOG),
        ("\x1b[32m[    0.000000] \x1b[0mLinux version 6.1\n", Kind.LOG),
        ("\0\0" + texts.ASPM_OFF, Kind.LOG),
        ("Linux version 3.10.0\nCommand line: ro\n  continued\n", Kind.LOG),
        ("BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro\n", Kind.CMDLINE),
        ("quiet", Kind.CMDLINE),
        ("pcie_aspm=off", Kind.CMDLINE),
        (texts.interrupts(texts.PORT_INTERRUPT), Kind.INTERRUPTS),
        (" 24:          1   PCI-MSI 32768-edge      PCIe PME, aerdrv, pciehp\n", Kind.INTERRUPTS),
        (" 24:  1  0  IR-PCI-MSIX-0000:00:02.0    0-edge      PCIe PME, aerdrv\n", Kind.INTERRUPTS),
        (WHOLE_LSPCI, Kind.LSPCI),
        ("0000:00:02.0 PCI bridge [0604]: Red Hat, Inc. QEMU PCIe Root port [1b36:000c]\n", Kind.LSPCI),
        ("00:02.0 0604: 1b36:000c\n", Kind.LSPCI),
        ("00:02.0 Class 0604: Device 1b36:000c\n", Kind.LSPCI),
        ("-[0000:00]-+-00.0\n           +-02.0-[01]----00.0\n           \\-1f.3\n", Kind.LSPCI),
        ("00:00.0 Host bridge: Intel\n00: 86 80 c0 29 03 01\n10: 00 00\n", Kind.LSPCI),
        ("2024-05-07T09:40:21.184213Z qemu-system-x86_64: vfio_err_notifier_handler(0000:02:10.0) x\n", Kind.QEMU),
        ("qemu-kvm: terminating on signal 15 from pid 4711\n", Kind.QEMU),
        ("2024-05-07 09:12:00.118+0000: starting up libvirt version: 8.0.0, package: 1\n", Kind.QEMU),
    ],
)
def test_a_file_is_known_by_its_content(text: str, kind: Kind) -> None:
    assert kinds(text) == [kind]


def test_one_file_may_hold_everything_and_lines_keep_their_numbers() -> None:
    line = "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro\n"
    text = (
        f"$ dmesg\n{texts.ASPM_OFF}$ cat /proc/cmdline\n{line}$ x\n{texts.interrupts()}$ lspci -vvv\n{WHOLE_LSPCI}$\n"
    )
    parts = split_parts("all.txt", text.encode())
    assert [part.kind for part in parts] == [Kind.LOG, Kind.CMDLINE, Kind.INTERRUPTS, Kind.LSPCI]
    lines = text.split("\n")
    assert all(line.text == lines[line.number - 1] for part in parts for line in part.lines)
    assert parts[0].span == f"kernel log (lines 2 to {1 + texts.ASPM_OFF.count(chr(10))})"
    assert parts[1].span.startswith("/proc/cmdline (line ")


def test_the_last_boot_of_several_counts() -> None:
    (part,) = split_parts("f", (texts.NATIVE + texts.ASPM_OFF).encode())
    log = read_log(part)
    assert (log.boots, log.whole) == (2, True)
    assert log.cmdline[0].endswith("pcie_aspm=off")
    assert log.records[0].line == texts.NATIVE.count("\n") + 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b" \n\t\n", "the file is empty"),
        (b"\x7fELF\x02\x01\x01" + bytes(3000), "the file is binary"),
        (bytes(range(256)) * 4, "the file is binary"),
        (gzip.compress(texts.NATIVE.encode()), "compressed with gzip"),
        (b"\xfd7zXZ\x00\x00", "compressed with xz"),
        (b"LPKSHHRH\x00\x00", "it is a systemd journal"),
        (b"hello world\n", "not a kind of file"),
        (b"# A title\n\nquiet text with root=/dev/sda in it\n", "not a kind of file"),
        (b'{"MESSAGE": "x"}\n', "not a kind of file"),
        (b"12:30.5 meeting\n", "not a kind of file"),
        (b"x" * (MAX_BYTES + 1), "at most 64 are read"),
    ],
)
def test_what_is_none_of_them_is_refused_by_name_with_what_is_accepted(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        split_parts("odd.txt", data)
    assert caught.value.message.startswith("reading odd.txt: ")
    assert caught.value.hint


def test_the_same_thing_twice_is_refused_with_both_names() -> None:
    parts = [*split_parts("a", texts.NATIVE.encode()), *split_parts("b", texts.ASPM_OFF.encode())]
    with pytest.raises(InputError, match="explaining a and b: both hold kernel log"):
        explain(parts)


#: characters and words that the parsers look for
PIECES = st.sampled_from(
    [
        *"\n\n\n[]():;,.+-0 \t\x1b\0",
        "[    0.000000] ",
        "6,1,1,-;",
        "Nov 21 12:36:51 h kernel: ",
        "acpi PNP0A08:00: _OSC: ",
        "OS supports [",
        "OS now controls [PCIeHotplug]",
        "platform does not support [PCIeHotplug",
        "_OSC failed (AE_NOT_FOUND)",
        "ACPI _OSC control (0x1d) granted",
        texts.root(),
        "pcieport 0000:00:02.0: pciehp: Slot #1 AttnBtn+",
        "acpiphp: Slot [0] registered",
        "Linux version 6.1",
        "Command line: pcie_aspm=off",
        "CPU0 CPU1",
        "24: 1 0 PCI-MSI x pciehp",
        "00:02.0 PCI bridge: x (rev ff)",
        "\tSltCap: HotPlug+",
        "\tSltCtl: HPIrq-",
        "\tBus: primary=00, secondary=00, ",
        "\tCapabilities: [54] Express (v2) Root Port (Slot+)",
        "\tRootCmd: FERptEn-",
        "root=/dev/sda ",
        "pcie_ports=native ",
        '"',
    ]
)


@given(st.binary(max_size=400) | st.lists(PIECES, max_size=60).map("".join).map(str.encode))
def test_any_bytes_are_explained_or_refused(data: bytes) -> None:
    with contextlib.suppress(InputError):
        explanation = explain(split_parts("f", data))
        for each in explanation.control:
            assert each.why


@pytest.mark.parametrize(
    "piece",
    [
        "_OSC: OS supports [",
        "[ 0.000000] _OSC",
        "pciehp Slot(",
        "DMI: QEMU",
        "24: 1 1 1 1 ",
        "CPU0 ",
        "00:02.0 PCI: bridge",
        "-[0000:00]-",
        " a=b",
        '"',
        "\tx\n00:00.0 a: b\n",
        "00:02.0 PCI bridge: x\n\tBus: primary=00, secondary=00, \n\tSltCap: HotPlug+\n\tSltCtl: HPIrq-\n",
    ],
)
@pytest.mark.parametrize(
    "start",
    [
        "",
        "[    0.000000] acpi PNP0A08:00: ",
        pytest.param("[    0.000000] ", marks=pytest.mark.extended),
        pytest.param("root=x", marks=pytest.mark.extended),
    ],
)
def test_a_long_repetitive_file_is_read_in_linear_time(start: str, piece: str) -> None:
    # a quadratic parser would take minutes for this: the test suite's patience is the limit
    with contextlib.suppress(InputError):
        explain(split_parts("f", (start + piece * (500_000 // len(piece))).encode()))
