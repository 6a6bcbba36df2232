"""Machines without a guest OS: a real QEMU, and kernels of a few bytes assembled here."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from testbed.host.accel import Accel
from testbed.host.host import LocalHost
from testbed.host.qemu import Qemu, find_qemu
from testbed.machine.argv import Boot
from testbed.machine.launch import Machine, launch
from testbed.machine.template import load_template

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from testbed.model.spec import MachineSpec

_LOADED_AT = 0x100000
_HALT = bytes.fromhex("fa f4 eb fd")  # cli; hlt; jmp to the hlt
RESET = bytes.fromhex("b0 fe e6 64")  # mov al, 0xfe; out 0x64, al: the keyboard controller pulls the reset line


def says(text: str, *, then: bytes = b"") -> bytes:
    """Return code that writes text to ttyS0, as fast as the line takes it, and goes on with `then`."""
    loop = bytes.fromhex(
        "ac 84 c0 74 14 88 c4"  # lodsb; end at NUL; mov ah, al
        "66 ba fd 03 ec a8 20 74 fb"  # until the line status register says that it is empty
        "88 e0 66 ba f8 03 ee eb e7"  # mov al, ah; out 0x3f8, al; next
    )
    text_at = _LOADED_AT + 32 + 5 + len(loop) + len(then) + len(_HALT)
    return b"\xbe" + struct.pack("<I", text_at) + loop + then + _HALT + text.encode() + b"\0"


def multiboot(code: bytes = _HALT) -> bytes:
    """Return a kernel as QEMU takes it: the Multiboot 0.6.96 header with addresses, then 32-bit code."""
    magic, flags, end = 0x1BADB002, 1 << 16, _LOADED_AT + 32 + len(code)
    checksum = -(magic + flags) & 0xFFFFFFFF
    header = (magic, flags, checksum, _LOADED_AT, _LOADED_AT, end, end, _LOADED_AT + 32)
    return struct.pack("<8I", *header) + code


def processes_naming(text: Path | str) -> list[int]:
    """Return the processes on whose command line a path stands: a machine's rundir or socket, never its name alone."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and str(text).encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


@pytest.fixture(scope="session")
def qemu() -> Qemu:
    return find_qemu()


@pytest.fixture
async def host() -> AsyncIterator[LocalHost]:
    async with LocalHost() as local:
        yield local


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    return tiny_boot(tmp_path)


def tiny_boot(folder: Path, code: bytes = _HALT) -> Boot:
    """Return what starts a guest that runs `code`."""
    kernel, initramfs = folder / "kernel", folder / "initramfs"
    kernel.write_bytes(multiboot(code))
    initramfs.touch()
    return Boot(kernel=kernel, initramfs=initramfs, cmdline="console=ttyS0 test")


def small(**parameters: Any) -> MachineSpec:
    """Return the smallest q35 the template makes."""
    return load_template("q35").spec({"ports": 1, "memory": 128, **parameters})


class LaunchMachine(Protocol):
    """Launches a small machine in `tmp_path/run`."""

    def __call__(
        self,
        spec: MachineSpec | None = None,
        *,
        boot: Boot | None = None,
        qemu: Qemu | None = None,
        host: LocalHost | None = None,
        rundir: Path | None = None,
    ) -> AbstractAsyncContextManager[Machine]: ...


@pytest.fixture
def launched(host: LocalHost, qemu: Qemu, boot: Boot, tmp_path: Path) -> LaunchMachine:
    here = host, qemu, boot

    def started(
        spec: MachineSpec | None = None,
        *,
        boot: Boot | None = None,
        qemu: Qemu | None = None,
        host: LocalHost | None = None,
        rundir: Path | None = None,
    ) -> AbstractAsyncContextManager[Machine]:
        rundir = rundir or tmp_path / "run"
        rundir.mkdir(exist_ok=True)
        return launch(
            spec or small(),
            boot or here[2],
            host=host or here[0],
            qemu=qemu or here[1],
            accel=Accel(name="tcg", reason="asked for"),
            rundir=rundir,
        )

    return started
