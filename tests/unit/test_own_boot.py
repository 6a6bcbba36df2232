"""A boot followed on a console: how far it came and why no further, from what firmware, loaders and kernels print."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from testbed.guest.console.own_boot import LATE, SILENT, follow_boot
from testbed.machine.argv import Boot
from testbed.machine.console import Console
from testbed.machine.journal import Journal
from testbed.machine.watch import Watch
from testbed.model.boot_stage import BootStage, shown
from testbed.model.errors import BootError, InputError
from testbed.model.login import Login, read_login

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from testbed.guest.console.own_boot import OwnBoot

    Peer = Callable[["Line"], Awaitable[None]]

SEABIOS = b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.2-debian-1.16.2-1)\r\nBooting from Hard Disk...\r\n"
GRUB = b"GRUB loading.\r\n\x1b[0;30;47mWelcome to GRUB!\r\n\r\n\x1b[2;24HGNU GRUB  version 2.06-13+deb12u2\r\n"
LOADING = b"Loading Linux ...\r\nLoading initial ramdisk ...\r\n"
NOISE = b"[   12.345678] random: crng init done\r\n"
OVMF = b'\x1b[=3h\x1b[2J\x1b[01;01HBdsDxe: starting Boot0001 "UEFI Misc Device" from PciRoot(0x0)/Pci(0x1E,0x0)\r\n'
LOGIN = b"\r\nDebian GNU/Linux 12 customer ttyS0\r\n\r\ncustomer login: "
SECRET = "hush-hush"


class Line:
    """The guest's end of a console."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self.typed = b""

    async def say(self, data: bytes) -> None:
        """Print, in small pieces, as a serial line does."""
        for at in range(0, len(data), 7):
            await asyncio.get_running_loop().sock_sendall(self._peer, data[at : at + 7])
            await asyncio.sleep(0)

    async def hear(self, wanted: bytes) -> None:
        """Wait until this has been typed."""
        while wanted not in self.typed:
            self.typed += await asyncio.get_running_loop().sock_recv(self._peer, 4096)
        self.typed = self.typed.partition(wanted)[2]

    async def key(self) -> bytes:
        """Return the next byte that is typed."""
        if not self.typed:
            self.typed = await asyncio.get_running_loop().sock_recv(self._peer, 4096)
        key, self.typed = self.typed[:1], self.typed[1:]
        return key


@contextlib.asynccontextmanager
async def machine_of(peer: Peer, folder: Path, *, cmdline: str = "", login: Login | None = None) -> AsyncIterator[Any]:
    """Yield what a boot is followed on, its other end being a coroutine that begins when the machine runs."""
    ours, theirs = socket.socketpair()
    agent, silent = socket.socketpair()  # ttyS1, on which nobody speaks
    agent.setblocking(False)
    ours.setblocking(False)
    theirs.setblocking(False)
    watch = Watch()
    tasks: list[asyncio.Task[None]] = []

    async def execute(command: str) -> None:
        assert command == "cont"
        tasks.append(asyncio.create_task(peer(Line(theirs))))  # type: ignore[arg-type]

    with contextlib.closing(theirs), contextlib.closing(agent), contextlib.closing(silent), Journal(folder) as journal:
        async with Console(ours, folder, watch) as console:
            try:
                yield SimpleNamespace(
                    boot=Boot(kernel=None, initramfs=None, cmdline=cmdline, login=login),
                    console=console,
                    journal=journal,
                    watch=watch,
                    qmp=SimpleNamespace(execute=execute),
                    process=SimpleNamespace(starved=lambda: 0.0),
                    rundir=folder,
                    shell=agent,
                    warped=False,
                )
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def followed(folder: Path, printed: bytes, *, seconds: float = 10.0) -> OwnBoot:
    async def peer(line: Line) -> None:
        await line.say(printed)

    return await followed_with(peer, folder, seconds=seconds)


async def followed_with(
    peer: Peer, folder: Path, *, cmdline: str = "", entry: int = 0, seconds: float = 30.0
) -> OwnBoot:
    """Follow a boot whose other end is a coroutine."""
    async with machine_of(peer, folder, cmdline=cmdline) as machine:
        return await follow_boot(machine, seconds=seconds, entry=entry)


@pytest.mark.parametrize(
    ("printed", "stages"),
    [
        (SEABIOS + GRUB + LOADING + LOGIN, "firmware loader login"),
        (OVMF + GRUB + b"EFI stub: Loaded initrd from command line\r\n" + LOGIN, "firmware loader kernel login"),
        (
            GRUB + b"[    0.000000] Linux version 6.1.0-57-amd64 (debian-kernel@lists.debian.org)\r\n"
            b"Loading, please wait...\r\nBegin: Running /scripts/local-premount ... done.\r\n"
            b"root: clean, 9211/98304 files, 187234/393216 blocks\r\n"
            b"[    9.1] EXT4-fs (vda1): mounted filesystem with ordered data mode. Quota mode: none.\r\n"
            b"\r\nWelcome to \x1b[1mDebian GNU/Linux 12 (bookworm)\x1b[0m!\r\n" + NOISE + LOGIN,
            "loader kernel initrd root init login",
        ),
        (LOGIN + NOISE, "login"),
        # seen with SeaBIOS 1.16.2: where the cursor is comes with a timer
        (GRUB.replace(b"GRUB!", b"G\x1b[04;12H\x1b[04;13HRUB!") + LOADING + LOGIN, "loader login"),
    ],
)
async def test_how_far_a_boot_comes(printed: bytes, stages: str, tmp_path: Path) -> None:
    boot = await followed(tmp_path, printed)
    assert [each.stage.word for each in boot.reached] == stages.split()
    assert boot.stop == ""
    assert boot.reached[-1].words.startswith("customer login:")


#: by the line that stops a boot: what comes before it, how far that is, what it is called, and what comes behind it
STOPPED = {
    "No bootable device.": (
        SEABIOS + b"Boot failed: not a bootable disk\r\n\r\n",
        "firmware",
        "no-bootable-device",
        b"",
    ),
    "BdsDxe: No bootable option or device was found.": (OVMF, "firmware", "no-bootable-device", b""),
    "grub rescue> ": (
        SEABIOS + b"GRUB loading.\r\nerror: no such partition.\r\nEntering rescue mode...\r\n",
        "loader",
        "grub-rescue",
        b"",
    ),
    "ALERT!  LABEL=nowhere does not exist.  Dropping to a shell!": (
        SEABIOS + GRUB + LOADING + b"mount: No such file or directory\r\n",
        "initrd",
        "initramfs-shell",
        b"(initramfs) ",
    ),
    'You are in emergency mode. After logging in, type "journalctl -xb"': (GRUB, "init", "emergency-mode", b""),
    "root: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.": (
        GRUB + LOADING,
        "initrd",
        "fsck",
        b"\t(i.e., without -a or -p options)\r\n(initramfs) ",
    ),
    "dracut:/# ": (GRUB + b"dracut Warning: /dev/x does not exist\r\n\r\n", "initrd", "dracut-shell", b""),
    "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)": (
        GRUB + b"[    1.2] Linux version 6.1\r\n",
        "kernel",
        "panic",
        b"[    2.1] ---[ end Kernel panic ]---\r\n",
    ),
}


@pytest.mark.parametrize("line", STOPPED)
async def test_why_a_boot_comes_no_further(line: str, tmp_path: Path) -> None:
    before, stage, stop, behind = STOPPED[line]
    end = b"" if line.endswith(" ") else b"\r\n"
    boot = await followed(tmp_path, before + line.encode() + end + behind)
    assert (boot.stage.word, boot.stop, boot.words) == (stage, stop, line.strip())
    assert boot.evidence == f"console.log:{before.count(bytes([10])) + 1}"
    assert boot.before


async def test_a_console_that_says_nothing_more_is_silent_and_one_that_did_is_late(tmp_path: Path) -> None:
    silent = await followed(tmp_path, SEABIOS + GRUB + LOADING, seconds=0.5)
    assert (silent.stage, silent.stop) == (BootStage.LOADER, SILENT)
    late = await followed(tmp_path, GRUB + b"Loading, please wait...\r\n", seconds=0.5)
    assert (late.stage, late.stop) == (BootStage.INITRD, LATE)
    assert "no word of root within" in late.words


async def test_options_need_a_menu(tmp_path: Path) -> None:
    async def peer(line: Line) -> None:
        await line.say(SEABIOS + b"GRUB loading.\r\n" + LOADING + LOGIN)

    with pytest.raises(BootError, match="no GRUB menu"):
        await followed_with(peer, tmp_path, cmdline="pci=nomsi")


async def test_a_password_is_typed_and_never_kept(tmp_path: Path) -> None:
    async def peer(line: Line) -> None:
        await line.say(GRUB + LOGIN)
        await line.hear(b"root\n")
        await line.say(b"root\r\nPassword: ")
        await line.hear(f"{SECRET}\n".encode())
        # a terminal that echoes all the same, and a secret in two pieces
        await line.say(f"{SECRET}\r\nLogin incorrect\r\n".encode() + LOGIN)

    async with machine_of(peer, tmp_path, login=Login(user="root", password=SECRET)) as machine:
        boot = await follow_boot(machine, seconds=10)
        assert (boot.stage, boot.stop, boot.words) == (BootStage.LOGIN, "login-incorrect", "Login incorrect")
        assert SECRET not in repr((boot, machine.boot)) + machine.console.tail()
    kept = [path.read_bytes() for path in tmp_path.iterdir()]
    assert not any(SECRET.encode() in each for each in kept)
    assert b"*" * len(SECRET) + b"\r\nLogin incorrect" in (tmp_path / "console.log").read_bytes()


@pytest.mark.parametrize(
    ("password", "said", "stop"),
    [
        ("", b"Password: ", "password-wanted"),
        ("x", b"You are required to change your password\r\n", "password-expired"),
    ],
)
async def test_why_nobody_is_logged_in(password: str, said: bytes, stop: str, tmp_path: Path) -> None:
    async def peer(line: Line) -> None:
        await line.say(LOGIN)
        await line.hear(b"root\n")
        await line.say(b"root\r\n" + NOISE + said)

    async with machine_of(peer, tmp_path, login=Login(user="root", password=password)) as machine:
        assert (await follow_boot(machine, seconds=10)).stop == stop


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("root\nsecret\n", 0o644, "other users can read"),
        ("", 0o600, "has no user"),
        ("a b\n", 0o600, "has no user name, or one with blanks"),
        ("root\nsecret\nmore\n", 0o600, "has 3 lines"),
        ("root\nsec\x1bret\n", 0o600, "control characters"),
    ],
)
def test_files_that_are_no_logins(text: str, mode: int, words: str, tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(InputError, match=words) as raised:
        read_login(file)
    assert "sec" not in str(raised.value) + (raised.value.hint or "")


def test_a_login_with_and_without_a_password(tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_text("root\n se cret \n")
    file.chmod(0o600)
    assert read_login(file) == Login(user="root", password=" se cret ")
    file.write_text("guest")
    assert read_login(file) == Login(user="guest", password="")
    with pytest.raises(InputError, match="No such file"):
        read_login(tmp_path / "none")
    with pytest.raises(InputError, match="other users can read"):
        read_login(Path("/dev/zero"))


def test_what_a_terminal_shows() -> None:
    assert shown("\x1b[=3h\x1b[2J\x1b[01;01HBdsDxe: \x1b[0;32mok\x1b[0m\x07\r") == "BdsDxe: ok"
