"""The readers of what users and customers give, of what guests and QEMU say, and of what rundirs hold."""

from __future__ import annotations

import asyncio
import contextlib
import io
import struct
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from testbed.campaign.case import read_case
from testbed.campaign.matrix.file import option_row, read_source, recorded_source
from testbed.campaign.matrix.matrix import expand
from testbed.campaign.record.rundir import read_outcome
from testbed.campaign.record.timeline import read_timeline
from testbed.explain.explanation import explain
from testbed.explain.setting import settings_of
from testbed.explain.source import split_parts
from testbed.guest.files import parse_shown
from testbed.guest.frames import Frame, FrameDecoder, encode
from testbed.guest.kernel_log import KernelLog
from testbed.guest.shell import Shell
from testbed.image.disk.boot_files import mark_loader_default, read_bls, read_extlinux
from testbed.image.disk.disk_name import FORMATS
from testbed.image.disk.grub import read_grub, read_grubenv
from testbed.image.disk.header import read_header as read_disk_header
from testbed.image.disk.records import DamagedError, last_volume, parse_records
from testbed.image.disk.survey import systems_of
from testbed.image.elf import is_elf64, notes, program_size, without_sections
from testbed.image.kernel import extract_vmlinux, read_header, read_release
from testbed.image.recipe import parse_recipe
from testbed.kvmtrace.explanation import explain as explain_trace
from testbed.lint.dump import parse_dump
from testbed.lint.linter import lint_functions
from testbed.lint.sysfs import parse_config
from testbed.machine.gdb_packet import Decoder as GdbDecoder
from testbed.machine.gdb_packet import parse_stop
from testbed.machine.journal import Journal, read_journal
from testbed.machine.libvirt import recreate
from testbed.machine.libvirt_domain import LibvirtDomain
from testbed.machine.mmio_trace import parse_event
from testbed.machine.qmp import Qmp
from testbed.machine.qtree import parse_tree
from testbed.machine.template import load_template
from testbed.machine.watch import Watch
from testbed.model.aer_log import (
    parse_announcement,
    parse_bus_error,
    parse_firmware_status,
    parse_header,
    parse_status,
)
from testbed.model.aer_tally import tally_errors
from testbed.model.cmdline import CommandLine
from testbed.model.cmdline_parts import take_apart
from testbed.model.errors import BedError, InputError
from testbed.model.json_reader import parse_json
from testbed.model.kernel_log import find_crash, parse_record
from testbed.model.log_line import is_unstamped, read_line
from testbed.model.log_text import is_by_chance, is_relevant, normalised
from testbed.model.osc import read_bridges
from testbed.model.pasted import decode, is_binary, split_lines, unwrapped
from testbed.model.recovery import read_recoveries
from testbed.model.setup import read_setup
from testbed.steps.file import load_steps
from tests.faults.target import files, target, text_of, texts, written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.machine.launch import Machine
    from testbed.model.kernel_log import LogRecord


# ---- what users give ----


@target("template", files("machine-templates/*.yaml.j2"))
def _template(data: bytes) -> None:
    with written(data, "odd.yaml.j2") as path, contextlib.suppress(InputError):
        template = load_template(str(path))
        for name in template.parameters:
            with contextlib.suppress(InputError):
                template.parse(name, text_of(data[:40]))
        template.spec({})


SETUPS = (
    'q35[devices=virtio-blk+nvme,port_properties={hotplug=off,x-speed=5},cpu="max,+svm"]{qemu=any,first="true"} quiet',
    "i440fx[memory=2G, devices=virtio-blk,e1000] pcie_aspm=off",
)


@target("setup", texts(*SETUPS))
def _setup(data: bytes) -> None:
    with contextlib.suppress(InputError):
        setup = read_setup(text_of(data), lambda name: load_template(name).parameters)
        # what is read is written back as the same
        if read_setup(str(setup), lambda name: load_template(name).parameters) != setup:
            raise AssertionError(str(setup))


@target("case", files("testbed/cases/*.yaml"))
def _case(data: bytes) -> None:
    with written(data, "odd.yaml") as path, contextlib.suppress(InputError):
        read_case(path, "odd")


@target("steps", files("testbed/scenarios/*.yaml"))
def _steps(data: bytes) -> None:
    with written(data, "odd.yaml") as path, contextlib.suppress(InputError):
        load_steps(path)


MATRIX = """\
kind: matrix
title: three lines on two machines
axes:
  scenario: [disk-unplug]
  machine: [q35, i440fx]
  parameters: [{}, {hotplug: native}]
  cmdline: ["", "quiet pcie_aspm=off", pci=nomsi]
exclude: [{machine: i440fx, parameters: [{hotplug: native}]}]
expect: [{cmdline: "", verdict: good}]
unstable: [{machine: i440fx, reason: to see what happens}]
repeat: 2
"""


@target("matrix", texts(MATRIX))
def _matrix(data: bytes) -> None:
    with written(data, "odd.yaml") as path:
        with contextlib.suppress(InputError):
            expand(read_source(path, {}))
        with contextlib.suppress(InputError):
            expand(recorded_source(path))
    with contextlib.suppress(InputError):
        option_row(text_of(data))


@target("recipe", files("guest-images/*.yaml"))
def _recipe(data: bytes) -> None:
    with contextlib.suppress(InputError):
        parse_recipe(text_of(data), source="odd")


@target("cmdline", texts('quiet  spaced="a b"   pci=noaer,nomsi -- init args ', "console=ttyS0,115200 pcie_aspm=off"))
def _cmdline(data: bytes) -> None:
    line = CommandLine(data.decode("utf-8", "surrogateescape"))  # as an argument comes
    with contextlib.suppress(InputError):
        line.check()
        parts = take_apart(line)
        assert isinstance(parts.rebuild([]), str)
        assert line.with_prefix().endswith(line.text)


DOMAIN = """\
<domain type="kvm"><name>x</name><memory unit="KiB">1048576</memory><vcpu>2</vcpu>
<os><type arch="x86_64" machine="pc-q35-7.2">hvm</type></os><devices>
<controller type="pci" index="0" model="pcie-root"/>
<controller type="pci" index="1" model="pcie-root-port"><target chassis="1" port="0x10"/>
<address type="pci" domain="0x0000" bus="0x00" slot="0x02" function="0x0" multifunction="on"/></controller>
<disk type="file" device="disk"><target dev="vda" bus="virtio"/>
<address type="pci" domain="0x0000" bus="0x01" slot="0x00" function="0x0"/></disk></devices></domain>
"""


TWO_DOMAINS = "Hi,\n" + "".join(f"> {line}\n" for line in (DOMAIN + DOMAIN.replace(' index="1"', "")).splitlines())


@target("libvirt", texts(DOMAIN, TWO_DOMAINS))
def _libvirt(data: bytes) -> None:
    with written(data, "domain.xml") as path, contextlib.suppress(InputError):
        for domain in LibvirtDomain.read(path):
            assert recreate(domain).options() is not None


# ---- what customers and their machines give ----

LOG = """\
[    0.000000] Linux version 6.1.0-56-amd64 (build@host) #1 SMP
[    0.000000] Command line: console=ttyS0 pcie_aspm=off
[    0.000000] DMI: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2-1 04/01/2014
[    0.400000] ACPI: PCI Root Bridge [PCI0] (domain 0000 [bus 00-ff])
[    0.400001] acpi PNP0A08:00: _OSC: OS supports [ExtendedConfig Segments MSI HPX-Type3]
[    0.400002] acpi PNP0A08:00: _OSC: not requesting OS control; OS requires [ExtendedConfig ASPM ClockPM MSI]
[    0.400003] acpi PNP0A08:00: _OSC: OS now controls [PCIeHotplug SHPCHotplug PME AER PCIeCapability]
[    1.000000] pcieport 0000:00:02.0: AER: Uncorrectable (Non-Fatal) error message received from 0000:01:00.0
[    1.000001] pcieport 0000:00:02.0: device [1b36:000c] error status/mask=00008000/00000000
[    1.000002] pcieport 0000:00:02.0: AER:   TLP Header: 00000000 00000001 00000002 00000003
[    1.000003] pcieport 0000:00:02.0: AER: device recovery successful
[    1.000004] vfio-pci 0000:01:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, id=0100(Receiver ID)
[    1.000005] {3}[Hardware Error]:   section_type: PCIe error
[    1.000006] {3}[Hardware Error]:   device_id: 0000:2c:00.0
[    1.000007] nvme 0000:2c:00.0: AER: aer_status: 0x00002001, aer_mask: 0x00000000
[    1.000008] pcieport 0000:00:02.0: DPC: containment event, status:0x1f01 source:0x0000
[    1.000009] pci 0000:01:00.0: BAR 7: no space for [mem size 0x00100000 64bit]
[    1.000010] pciehp 0000:00:02.0:pcie004: Slot(2): Powering off due to button press
[    2.000000] Kernel panic - not syncing: Fatal exception
"""
INTERRUPTS = """\
           CPU0       CPU1
  24:          0          0   PCI-MSI 32768-edge      PCIe PME, aerdrv, pciehp
 NMI:          0          0   Non-maskable interrupts
"""
LSPCI = """\
00:02.0 PCI bridge: Red Hat, Inc. QEMU PCIe Root port (prog-if 00 [Normal decode])
	Bus: primary=00, secondary=01, subordinate=01, sec-latency=0
	Capabilities: [54] Express (v2) Root Port (Slot+), MSI 00
		SltCap:	AttnBtn+ PwrCtrl+ MRL- AttnInd+ PwrInd+ HotPlug+ Surprise+
	Kernel driver in use: pcieport

00:03.0 Ethernet controller: Intel Corporation 82574L
	Region 0: Memory at febc0000 (32-bit, non-prefetchable) [size=128K]
00: 86 80 d3 10 07 00 10 00 00 00 00 02 00 00 00 00
10: 00 00 bc fe 00 00 00 00 00 00 00 00 00 00 00 00
20: 00 00 00 00 00 00 00 00 00 00 00 00 86 80 00 00
30: 00 00 00 00 c8 00 00 00 00 00 00 00 0b 01 00 00
"""


QEMU_LOG = "2024-05-07T09:40:21.1Z qemu-system-x86_64: vfio_err_notifier_handler(0000:01:00.0) Unrecoverable error\n"
#: as a mail quotes it, as grep -n and a container print it
WRAPPED = tuple(
    "".join(f"{before}{line}\n" for line in (LOG + LSPCI).splitlines())
    for before in ("> ", "37:", "2024-05-07T09:12:00.123450001Z ", "guest-1  | ")
)


@target(
    "explain",
    lambda: [
        *texts(LOG, INTERRUPTS, LSPCI, LOG + INTERRUPTS + LSPCI + QEMU_LOG, *WRAPPED)(),
        LOG.encode("utf-16"),
        LSPCI.encode("utf-16-le"),
    ],
)
def _explain(data: bytes) -> None:
    with contextlib.suppress(InputError):
        explain(split_parts("odd.txt", data))


DUMPS = """\
$ xxd /sys/bus/pci/devices/0000:03:00.0/config
00000000: 8c16 2a00 0701 1000 0100 8002 1000 0000  ..*.............
*
00000040: 0150 c25b 0000 0000 0000 0000 0000 0000  .P.[............
00000000  8c 16 2a 00 07 01 10 00  01 00 80 02 10 00 00 00  |..*.............|
*
00000100
0000000 168c 002a 0107 0010 0001 0280 0010 0000
0000020 0004 f460 0000 0000 0000 0000 0000 0000
0000:03:00.0 (cap 10 @60) @68 = 0c04
04:00.0 Non-Volatile memory controller: x
	Region 0: Memory at f7c00000 (64-bit, non-prefetchable) [size=16K]
	Capabilities: [b0] MSI-X: Enable+ Count=24 Masked-
		Vector table: BAR=0 offset=00002000
		PBA: BAR=0 offset=00002100
> 80: 00 00 00 00 00 00 0pcilib: sysfs_read_vpd: read failed: No such device
> 0 00 00 00 00 00 00 00 00 00
"""


@target("pasted", texts(*WRAPPED, '{"log": "[    0.000000] Linux\\n"}\n', "root=3D/dev/vda =\n&gt; x\n"))
def _pasted(data: bytes) -> None:
    lines = split_lines(decode(data))
    found = list(unwrapped(lines, lambda text: read_line(text) is not None or is_unstamped(text)))
    assert len(found) == len(lines)
    is_binary(data)


@target("lspci", texts(LSPCI, DUMPS))
def _lspci(data: bytes) -> None:
    with contextlib.suppress(InputError):
        for functions in parse_dump(text_of(data), source="odd").machines:
            lint_functions(functions)


@target("config-space", lambda: [bytes(256), bytes(range(256)) * 16])
def _config(data: bytes) -> None:
    """Lint a binary dump, cut or filled up to a size that sysfs has."""
    for size in (64, 256, 4096):
        whole = data[:size] + bytes(max(0, size - len(data)))
        with contextlib.suppress(InputError):
            lint_functions([parse_config(whole, source="odd", bdf=None, resource=text_of(data[:200]))])
    with contextlib.suppress(InputError):
        parse_config(data, source="odd", bdf=None)


TRACE = """\
 CPU 0/KVM-4711    [002] d..1.  1234.500300: kvm_exit:             reason npf rip 0x4f1184 info 10000000f fe000014
 CPU 0/KVM-4711    [002] .....  1234.500301: kvm_page_fault:       address fe000014 error_code f
 CPU 0/KVM-4711    [002] d..1.  1234.500302: kvm_entry:            vcpu 0
 CPU 0/KVM-4711    [002] .....  1234.500402: kvm_emulate_insn:     0:4f1184:8b 07 (prot64)
 CPU 0/KVM-4711    [002] .....  1234.500403: kvm_mmio:             mmio read len 4 gpa 0xfe000014 val 0x12
CPU:1 [LOST 77 EVENTS]
"""
ENDS = """\
KVM internal error. Suberror: 1
extra data[0]: 0x0000000000000002
    [001]   770.830307:                       kvm:kvm_exit: vcpu 0 reason EPT_VIOLATION rip 0x100146 info1 181 info2 0
    [001]   770.830308:              kvm:kvm_nested_vmexit: rip 100146 reason EPT_VIOLATION info1 181 info2 0
    [001]   770.830309:               kvm:kvm_emulate_insn: 0:100146: f3 a5 FAIL
    [001]   770.830310:              kvm:kvm_inj_exception: #UD (0x0)
>   CPU 0/K-4711   2d..1  1234.500300: kvm_userspace_exit: reason error (14)
12: CPU 0/K-4711   2d..1  12345678us : kvm_userspace_exit: reason KVM_EXIT_SHUTDOWN (8)
"""


@target("kvm-trace", texts(TRACE, TRACE * 8, ENDS))
def _trace(data: bytes) -> None:
    with contextlib.suppress(InputError):
        explain_trace(text_of(data).splitlines(keepends=True), name="odd", at_least=3)


@target(
    "kernel", lambda: [b"MZ" + bytes(0x1F0) + b"\x04\0\0\0\x55\xaaHdrS" + bytes(2000), b"\x7fELF\2\1\1" + bytes(600)]
)
def _kernel(data: bytes) -> None:
    """Read a kernel file that a customer sent."""
    with contextlib.suppress(InputError, BedError):
        read_release(data, source="odd")
    with contextlib.suppress(InputError):
        extract_vmlinux(read_header(data, source="odd"), source="odd")
    if is_elf64(data):
        with contextlib.suppress(ValueError):
            list(notes(data))
            program_size(data)
            without_sections(data)


# ---- what guests say ----


GRUB = """set default="${saved_entry}"
submenu 'More' $menuentry_id_option 'm' {
menuentry "A \\"b\\"" --id a {
 linux /vmlinuz-6 root=UUID=x $kernelopts "a b"
 initrd /initrd-6
}
}
blscfg
"""
BLS = "title A\nlinux /vmlinuz-6\noptions quiet $kernelopts\ninitrd /i\n"
EXTLINUX = "DEFAULT a\nLABEL a\n MENU LABEL ^A\n KERNEL /vmlinuz-6\n APPEND initrd=/i quiet\n"
UDEV = 'SUBSYSTEM=="pci", ATTR{remove}="1"\n*/5 * * * * root echo 1 > /sys/bus/pci/rescan\nblacklist shpchp\n'


@target("boot-files", texts(GRUB, BLS, EXTLINUX, UDEV, "# GRUB\nsaved_entry=1>0\n"))
def _boot_files(data: bytes) -> None:
    """Read the files of a disk's boot loaders and its settings."""
    text = text_of(data)
    entry = read_bls(text, name="a.conf", source="a")
    read_grub(text, source="a", environment=read_grubenv(text), entries=[entry] if entry else [])
    read_extlinux(text, source="a")
    mark_loader_default([entry] if entry else [], text)
    for path in ("/etc/crontab", "/etc/udev/rules.d/a.rules", "/etc/modprobe.d/a.conf"):
        list(settings_of(path, text))


def _disk_record(kind: bytes, name: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<IQQ", len(name), len(content), len(content)) + name + content


@target(
    "disk-records",
    lambda: [
        _disk_record(b"T", b"vda", b"gpt")
        + _disk_record(b"V", b"vda1", b"type=ext4\nuuid=x\n")
        + _disk_record(b"F", b"etc/os-release", b"NAME='A'\n")
        + _disk_record(b"F", b"boot/grub/grub.cfg", GRUB.encode())
        + _disk_record(b"D", b"lib/modules/6", b"")
        + _disk_record(b"E", b"", b"")
    ],
)
def _disk_records(data: bytes) -> None:
    """Read what the guest says that has mounted a hostile disk."""
    last_volume(data)
    with contextlib.suppress(DamagedError):
        for system in systems_of(parse_records(data)):
            system.default_kernel()


@target("disk-header", lambda: [b"QFI\xfb\0\0\0\3" + bytes(96), b"KDMV" + bytes(600), b"# Disk DescriptorFile"])
def _disk_header(data: bytes) -> None:
    for image_format in FORMATS:
        with contextlib.suppress(InputError):
            read_disk_header(io.BytesIO(data), image_format, source="a")


@target("kernel-log", lambda: [line.encode() for line in LOG.splitlines()] + [LOG.encode()])
def _log(data: bytes) -> None:
    text = text_of(data)
    records: list[LogRecord] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if record := parse_record(f"6,{number},{number * 1000},-;{line}", line=number):
            records.append(record)
        parse_record(line, line=number)
        for read in (
            *(find_crash, normalised, is_relevant, is_by_chance, read_line, is_unstamped),
            *(parse_announcement, parse_bus_error, parse_status, parse_firmware_status, parse_header),
        ):
            read(line)
    read_bridges(records)
    read_recoveries(records)
    tally_errors(records)


@target("kmsg", texts("6,1,1000000,-;pci 0000:00:02.0: BAR 0\n SUBSYSTEM=pci\n", "6,2,2,-;\\x1b[31m\n"))
def _kmsg(data: bytes) -> None:
    async def feed() -> None:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            log = KernelLog(Path(folder), Watch())
            log.feed(data)
            log.close()
            kept = (Path(folder) / "kernel.log").read_text(encoding="utf-8").split("\n")
            assert len(kept) == log.lines + 1

    asyncio.run(feed())


@target("frames", lambda: [encode(Frame(type="O", id=1, payload=b"hello")) * 2, b"\x01TB1" * 9])
def _frames(data: bytes) -> None:
    decoder = FrameDecoder()
    for start in range(0, len(data), 7):
        for frame in decoder.feed(data[start : start + 7]):
            encode(frame)


def frames_in(data: bytes) -> Iterator[Frame]:
    """Return frames of every type, number and payload: what a hostile init might send."""
    letters = b"HOEXMPLTSWZD!?\xff"
    while data:
        letter, number, length, data = data[0], data[1:2], data[2:3], data[3:]
        count = length[0] if length else 0
        payload, data = data[:count], data[count:]
        yield Frame(
            type=chr(letters[letter % len(letters)]),
            id=(number[0] if number else 0) % 9,
            payload=payload,
            nanoseconds=int.from_bytes(payload[:8], "little"),
        )


def bare_machine(folder: Path, watch: Watch, journal: Journal) -> Machine:
    """Return what a shell needs of a machine, with nobody at the other end."""
    silent = SimpleNamespace(fileno=lambda: -1)
    process = SimpleNamespace(starved=lambda: 0.0)
    given = {"rundir": folder, "watch": watch, "journal": journal, "shell": silent, "warped": False}
    return cast("Machine", SimpleNamespace(process=process, **given))


class DeafShell(Shell):
    """A shell whose frames are given to it, and whose requests go nowhere."""

    async def _read(self) -> None:
        """Read nothing."""

    async def send(self, letter: str, number: int, payload: bytes = b"") -> None:
        """Send nothing."""

    def give(self, frame: Frame) -> None:
        """Take a frame as if it had come."""
        self._take(frame)


@target(
    "shell", lambda: [b"H\0\x0a1\x006.1\0quiet", b"\x01\1\5hello\3\1\6exit 0", b"\3\2\4exit\3\2\0\x0c\2\0\x01\3\1\xff"]
)
def _shell(data: bytes) -> None:
    """Give a shell whatever frames in answer to one request of each kind; whoever waits is answered or still waits."""

    async def talk() -> None:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as name, Journal(Path(name)) as journal:
            machine = bare_machine(Path(name), Watch(), journal)
            async with DeafShell(machine) as shell:
                asking: list[asyncio.Task[Any]] = [
                    asyncio.create_task(each)
                    for each in (shell.hello(), shell.clock(), shell.catch_up(), shell.sleep(1), shell.run("true"))
                ]
                asking.append(asyncio.create_task(shell.wait_path("/x", exists=True, seconds=1)))
                asking.append(asyncio.create_task(shell.start_steps(1)))
                await asyncio.sleep(0)
                for frame in frames_in(data):
                    shell.give(frame)
                for _ in range(4):
                    await asyncio.sleep(0)
                for each in asking:
                    each.cancel()
                ends = await asyncio.gather(*asking, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, BedError):
                raise end

    asyncio.run(talk())


@target("shown-files", texts("file /sys/x/config 4\nabcd\nlink /sys/y ../z\n"))
def _shown(data: bytes) -> None:
    with contextlib.suppress(ValueError, IndexError):  # as it says
        parse_shown(data)


# ---- what QEMU says ----


@target(
    "qmp-event",
    texts(
        '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}',
        '{"event": "DEVICE_DELETED", "data": {"device": "dev1", "path": "/machine"}}',
        '{"event": 5, "data": []}',
    ),
)
def _qmp_event(data: bytes) -> None:
    """Give QMP an event of any shape, as qemu.qmp would let it pass: a dict with a member `event`."""
    try:
        message = parse_json(data)
    except ValueError:
        return
    if not isinstance(message, dict) or "event" not in message:
        return

    async def deliver() -> None:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, Journal(Path(folder)) as journal:
            qmp = Qmp(journal, Watch())
            with qmp.listen("DEVICE_DELETED", device="dev1"), qmp.listen_all("SHUTDOWN"):
                qmp.deliver(message)

    asyncio.run(deliver())


@target("qtree", texts('bus: main-system-bus\n  type System\n  dev: q35-pcihost, id ""\n    bus: pcie.0\n'))
def _qtree(data: bytes) -> None:
    parse_tree(text_of(data))


@target("mmio-event", texts("memory_region_ops_write cpu 0 mr 0x55 addr 0xfe000014 value 0x1 size 4 name 'x'"))
def _mmio(data: bytes) -> None:
    parse_event(text_of(data), seconds=1.0)


@target("gdb", texts("+$T05thread:01;swbreak:;#b4", "$S05#b8", "$#00"))
def _gdb(data: bytes) -> None:
    decoder = GdbDecoder()
    with contextlib.suppress(ValueError):  # as it says
        for start in range(0, len(data), 5):
            for packet in decoder.feed(data[start : start + 5]):
                parse_stop(packet)
    parse_stop(data)


# ---- what rundirs hold ----


@target("outcome", texts('{"schema": 1, "verdict": "good"}', "[]", "null"))
def _outcome(data: bytes) -> None:
    with written(data, "outcome.json") as path, contextlib.suppress(InputError):
        read_outcome(path.parent)


@target(
    "timeline",
    texts(
        '{"wall_seconds": 0.1, "event": {"event": "RESUME"}}\n{"wall_seconds": 0.2, "command": {"execute": "cont"}}',
        '{"wall_seconds": 1, "ended": {"command": "x", "status": 0, "output": "", "guest_seconds": 2}}',
        '{"wall_seconds": 0.5, "kernel_log": {"first": 1, "last": 2, "guest_seconds": 1}}',
        "<6>[    0.000001] Linux version\n",
    ),
)
def _timeline(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for name in ("qmp.jsonl", "shell.jsonl", "clock.jsonl", "mmio.jsonl", "kernel.log", "console.log"):
            Path(folder, name).write_bytes(data)
            read_journal(Path(folder, name))
        with contextlib.suppress(InputError):
            read_timeline(Path(folder))
