"""The readers of a guest's console, of what its programs answer, and of what is typed to a session."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct
import tempfile
from pathlib import Path

from testbed.actions.inventory import interrupt_sources
from testbed.actions.probe_result import read_timing
from testbed.actions.register import Access, Register, Route
from testbed.campaign.bisect.record import BisectRequest, TrialRecord
from testbed.campaign.matrix.baseline import read_baseline
from testbed.campaign.setups import read_cell
from testbed.guest.aer_counters import parse_counter
from testbed.guest.bars import parse_resources
from testbed.guest.console.frames import AnswerFrames, encoded, typed_again, without_frames
from testbed.guest.console.login import WORDS
from testbed.guest.console.screen import ROWS, Screen
from testbed.guest.load import read_tally
from testbed.guest.lock_owner import named_owner
from testbed.guest.shell import Result
from testbed.guest.task import parse_stat
from testbed.guest.tracing import parse_trace
from testbed.image.disk.disk_name import read_disk_name
from testbed.image.modules import find_closure, read_index
from testbed.image.rpm import read_header
from testbed.machine.console import Console
from testbed.machine.proxy_message import HEADER_SIZE, ProxyCommand, parse_bar, parse_config, parse_header
from testbed.machine.watch import Watch
from testbed.model.bar import Space
from testbed.model.boot_stage import STAGES, STOPS, shown
from testbed.model.errors import BedError, BrokenError, InputError
from testbed.model.kernel_log import parse_record
from testbed.model.login import read_login
from testbed.verbs.verbs import check_line
from tests.faults.target import target, text_of, texts, written

# ---- what a console shows ----

BOOT = """\
SeaBIOS (version 1.16.2-1)\r
\x1b[1;1HGRUB loading.\r
\x1b[H\x1b[J  GNU GRUB  version 2.06\r
 The highlighted entry will be executed automatically in 5s.\r
[    0.000000] Linux version 6.1.0-56-amd64 (build@host)\r
[    1.000000] Run /init as init process\r
Begin: Running /scripts/local-premount ... done.\r
[    2.000000] EXT4-fs (vda1): mounted filesystem with ordered data mode. Quota mode: none.\r
/dev/vda1: clean, 20/640 files, 300/2560 blocks\r
Welcome to \x1b[1mDebian GNU/Linux 12 (bookworm)\x1b[0m!\r
[  OK  ] Reached target Login Prompts.\r
\r
Debian GNU/Linux 12 guest ttyS0\r
\r
guest login: """


@target("console", texts(BOOT, "Booting from Hard Disk...\r\nNo bootable device.\r\n", "error: x\r\ngrub rescue> "))
def _console(data: bytes) -> None:
    """Follow a boot: whatever is printed, each wait ends with the words or goes on."""
    waits = [[*STAGES.values(), *(stop.pattern for stop in STOPS)], WORDS]

    async def follow() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        came = asyncio.Event()
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, theirs:
            async with Console(ours, Path(folder), Watch()) as console:
                waiting = [asyncio.create_task(console.expect_first(words)) for words in waits]
                await asyncio.get_running_loop().run_in_executor(None, theirs.sendall, data)
                with console.follow(lambda _: came.set()):
                    while len(console.written()) < len(data):
                        await came.wait()
                        came.clear()
                for _ in range(4):
                    await asyncio.sleep(0)
                for each in waiting:
                    each.cancel()
                for end in await asyncio.gather(*waiting, return_exceptions=True):
                    if isinstance(end, Exception) and not isinstance(end, BedError):
                        raise end

    asyncio.run(follow())


@target("screen", texts(BOOT, "\x1b[2J\x1b[04;05Hx\x1b[K\x1b[1A\x1b[80C|\\\b\x1b(0\x1b[7m"))
def _screen(data: bytes) -> None:
    screen = Screen()
    for start in range(0, len(data), 100):
        screen.feed(data[start : start + 100].decode("ascii", "replace"))
    assert len(screen.rows) == ROWS
    shown(text_of(data))


def _answer(text: bytes) -> bytes:
    lines = text.split(b"\n")[:-1]
    framed = b"".join(b"1:%d:%s~\n" % (number, line) for number, line in enumerate(lines, start=1))
    end = b"1:0:%d:%s~\n" % (len(lines), hashlib.sha256(text).hexdigest().encode())
    return encoded(framed + end)


@target(
    "console-frames",
    lambda: [
        _answer(b"0:1234:1240\nYWxpdmUK\n:\n"),
        b"[  1.0] x\r\n" + _answer(b"1:1:2\n:\nYQ==\n") + encoded(b"1:0:3:" + b"0" * 64 + b"~\n"),
        b"0:1234:1240\nYWxpdmUK\n:\n",
    ],
)
def _console_frames(data: bytes) -> None:
    """Take frames as they may come, and an answer that is whole but says anything."""
    for sent in (data, encoded(data), _answer(data)):
        frames = AnswerFrames(number=1)
        for start in range(0, len(sent), 50):
            frames.feed(sent[start : start + 50])
            frames.answer()
        typed_again(1, frames.missing)
    without_frames(data)


# ---- what programs in the guest answer ----


def _result(data: bytes) -> Result:
    return Result(command="x", status=0, stdout=data, stderr=data[:40], started=1.0, ended=2.0, evidence="shell.jsonl")


STAT = "1 (init) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 2"


@target("task", texts(STAT, "12 (a) b) D 1 12 12 0 -1 0 0 0 0 0 9 9"))
def _task(data: bytes) -> None:
    parse_stat(text_of(data), evidence="")


@target("guest-files", texts("RxErr 0\nTOTAL_ERR_COR 3\n", "7", "0x0 0x0 0x0\n0xfe000000 0xfe003fff 0x40200"))
def _guest_files(data: bytes) -> None:
    text = text_of(data)
    parse_counter("aer_dev_correctable", text)
    parse_resources(text)


OWNER = "INFO: task sh:12 blocked on a mutex likely owned by task kworker/0:1:34.\n"
SOURCES = " 24:          0          3   PCI-MSI 32768-edge      virtio0-config\n NMI:  0  0   Non-maskable\n"


@target("kernel-words", texts(OWNER, SOURCES))
def _kernel_words(data: bytes) -> None:
    text = text_of(data)
    lines = enumerate(text.split("\n"), start=1)
    records = (parse_record(f"6,{number},{number * 1000},-;{line}", line=number) for number, line in lines)
    named_owner(12, filter(None, records))
    interrupt_sources(text)


FTRACE = """\
# tracer: function
     kworker/0:1-12      [000] d.... 12.345678: aer_irq <-__handle_irq_event_percpu
           <idle>-0     (-----) [001] d.h1. 1.000001: kvm_exit: vcpu 0 reason x
"""


@target("ftrace", texts(FTRACE))
def _ftrace(data: bytes) -> None:
    for line in parse_trace(text_of(data)):
        assert line.call is None or len(line.call) == 2


@target("load", texts("done=12 last=3.25 before_ms=1.5 after_ms=2 lost=0 late=1"))
def _load(data: bytes) -> None:
    with contextlib.suppress(BrokenError):
        read_tally(_result(data))


@target("probe", texts("first=0x1 last=0x2 count=3 min_ns=1 mean_ns=2 max_ns=3"))
def _probe(data: bytes) -> None:
    access = Access(route=Route.KERNEL, bar=0, offset=0, width=4)
    register = Register(access=access, space=Space.MEMORY, gpa=0, arguments="")
    with contextlib.suppress(BrokenError, InputError):
        read_timing(_result(data), register)


# ---- what QEMU's other end sends ----


@target("proxy", lambda: [bytes(HEADER_SIZE), b"\5\0\0\0" + bytes(4) + b"\x18" + bytes(7) + bytes(24)])
def _proxy(data: bytes) -> None:
    head, rest = data[:HEADER_SIZE], data[HEADER_SIZE:]
    with contextlib.suppress(ValueError):  # as they say
        parse_bar(ProxyCommand.BAR_WRITE, rest, seconds=1.0)
    with contextlib.suppress(ValueError):
        parse_config(rest)
    if len(head) == HEADER_SIZE:
        with contextlib.suppress(ValueError):
            parse_header(head)


# ---- what users type and give ----

LINES = (
    "plug virtio-blk on rp2 as dev3",
    "inject RxErr at rp1 header 1 2 3 4",
    "wait 5",
    '{"execute": "stop"}',
    "sh ls",
)


@target("verb", texts(*LINES, "unplug dev1", "qmp query-pci", "reset", "log error", "device_add driver=nvme id=x"))
def _verb(data: bytes) -> None:
    with contextlib.suppress(InputError):
        check_line(text_of(data))


@target("cell", texts("disk-unplug[load=io] q35[hotplug=native]{qemu=any} quiet", "disk-present i440fx"))
def _cell(data: bytes) -> None:
    with contextlib.suppress(InputError):
        read_cell(text_of(data))
    with contextlib.suppress(ValueError):  # as it says
        name = read_disk_name(text_of(data))
        assert read_disk_name(str(name)) == name


@target("login", texts("root\nsecret\n", "user\n"))
def _login(data: bytes) -> None:
    with written(data, "login") as path:
        path.chmod(0o600)
        with contextlib.suppress(InputError):
            read_login(path)


# ---- what packages and disks hold ----

TABLES = {
    "modules.dep": "kernel/a.ko.xz: kernel/b.ko.xz kernel/c.ko\nkernel/b.ko.xz:\nkernel/c.ko:\n",
    "modules.softdep": "softdep a pre: b post: c\n",
    "modules.alias": "alias pci:v00001AF4d* a\nalias x a\n",
    "modules.builtin": "kernel/d.ko\n",
}


@target("modules", texts("\0".join(TABLES.values())))
def _modules(data: bytes) -> None:
    """Read depmod's tables of a customer's disk."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for name, content in zip(TABLES, data.split(b"\0"), strict=False):
            Path(folder, name).write_bytes(content)
        Path(folder, "modules.dep").touch()
        with contextlib.suppress(InputError):
            find_closure(read_index(Path(folder)), ["a", "x", "d"])


_HEADER = b"\x8e\xad\xe8\x01\0\0\0\0"
RPM = (
    *(b"\xed\xab\xee\xdb" + bytes(92), _HEADER + bytes(8), _HEADER + b"\0\0\0\1\0\0\0\2"),
    b"\0\0\3\xe8\0\0\0\6\0\0\0\0\0\0\0\1a\0",
)


@target("rpm", lambda: [b"".join(RPM)])
def _rpm(data: bytes) -> None:
    with contextlib.suppress(ValueError, KeyError, struct.error):  # as it says
        read_header(data)


# ---- what earlier runs left ----


@target("records", texts('{"schema": 1, "rows": [], "cells": []}', '{"cells": [], "goal": "remedy"}', '{"crc32": 1}\n'))
def _records(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        for file in ("base.json", "request.json", "trials.jsonl"):
            (folder / file).write_bytes(data)
        with contextlib.suppress(InputError):
            read_baseline(folder / "base.json")
        with contextlib.suppress(InputError):
            BisectRequest.read(folder)
        with TrialRecord(folder):
            pass
