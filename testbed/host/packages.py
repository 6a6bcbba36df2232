"""The host packages the test bed needs, and how this distribution calls them.

Standard library only: `python3 testbed/host/packages.py [check|install] [firmware|tests|kvm]` runs on a bare Python
before any virtual environment exists. The Debian names were looked up in the archives of Debian 12 and 13; the others
are the distributions' documented names, and untested.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: ID or ID_LIKE of /etc/os-release -> the package tool
FAMILIES = {
    "debian": "apt-get",
    "ubuntu": "apt-get",
    "fedora": "dnf",
    "rhel": "dnf",
    "arch": "pacman",
    "suse": "zypper",
    "opensuse": "zypper",
}
#: (ID, VERSION_ID) in whose archives the names below were looked up
CHECKED = {("debian", "12"), ("debian", "13")}

#: where RHEL and its kin have their only QEMU
RHEL_QEMU = Path("/usr/libexec/qemu-kvm")

INSTALL = {
    # the lock timeout waits for an unattended upgrade instead of failing
    "apt-get": ("apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"),
    "dnf": ("dnf", "install", "-y", "--setopt=install_weak_deps=False"),
    "pacman": ("pacman", "-S", "--needed", "--noconfirm"),
    "zypper": ("zypper", "--non-interactive", "install", "--no-recommends"),
}


def search_path() -> str:
    """Return PATH with the sbin folders, which Debian leaves out for users."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def find_program(program: str) -> str | None:
    """Return where a program lies, sbin included, or None."""
    return shutil.which(program, path=search_path())


def has_static_libc() -> bool:
    """Tell whether the C compiler finds a static libc."""
    question = [*shlex.split(os.environ.get("CC", "gcc")), "-print-file-name=libc.a"]
    try:
        found = subprocess.run(question, capture_output=True, text=True, check=False)
    except OSError:
        return False
    return Path(found.stdout.strip()).is_absolute()  # a compiler that finds none echoes the bare name


def has_ensurepip() -> bool:
    """Tell whether this Python can make a virtual environment with pip in it."""
    return importlib.util.find_spec("ensurepip") is not None


@dataclass(frozen=True)
class Need:
    """One thing the host must offer, what for, and the package that brings it (by package tool)."""

    name: str
    why: str
    packages: Mapping[str, str]
    present: Callable[[], bool] | None = None  #: None: the program `name` is looked for

    def is_present(self) -> bool:
        """Tell whether the host offers it."""
        return self.present() if self.present else find_program(self.name) is not None


def _names(apt: str, *, dnf: str = "", pacman: str = "", zypper: str = "") -> Mapping[str, str]:
    return {"apt-get": apt, "dnf": dnf or apt, "pacman": pacman or apt, "zypper": zypper or apt}


_VENV = f"python3.{sys.version_info.minor}-venv"

NEEDS = (
    Need(
        "qemu-system-x86_64",
        "the machine under test",
        # SeaBIOS, the PVH loader and the network cards' option ROMs are hard dependencies on Debian
        # that of Fedora depends on qemu-system-x86; RHEL and its kin have no other
        _names("qemu-system-x86", dnf="qemu-kvm", zypper="qemu-x86"),
        lambda: find_program("qemu-system-x86_64") is not None or RHEL_QEMU.exists(),
    ),
    # SUSE's busybox-static has a program of another name
    Need(
        "busybox", "the guest's user space", _names("busybox-static", dnf="busybox", pacman="busybox", zypper="busybox")
    ),
    Need("depmod", "the guest's modules", _names("kmod")),
    Need("modinfo", "the guest's modules", _names("kmod")),
    Need("lspci", "shown in the guest", _names("pciutils")),
    Need("setpci", "used in the guest", _names("pciutils")),
    Need("zstd", "kernels and modules compressed with it", _names("zstd")),
    Need("lz4", "kernels compressed with it", _names("lz4")),
    Need("socat", "reproduce.sh", _names("socat")),
    Need("setpriv", "children that die with the bed", _names("util-linux")),
    Need("gcc", "the guest's init", _names("gcc")),
    Need(
        "static libc",
        "the guest's init",
        _names("libc6-dev", dnf="glibc-static", pacman="glibc", zypper="glibc-devel-static"),
        has_static_libc,
    ),
    Need(
        "python ensurepip",
        "the virtual environment",
        _names(_VENV, dnf="python3", pacman="python", zypper="python3"),
        has_ensurepip,
    ),
    Need("bsdtar", "kernel packages", _names("libarchive-tools", dnf="bsdtar", pacman="libarchive", zypper="bsdtar")),
)

#: what only the tests use: they skip, naming it, where it is missing. A browser is too big to be needed for a run
TEST_NEEDS = (
    Need(
        "chromium",
        "the tests of the HTML report",
        _names("chromium"),
        lambda: any(map(find_program, ("chromium", "chromium-browser", "google-chrome"))),
    ),
    Need("mkfs.xfs", "the tests of disks with an xfs", _names("xfsprogs")),
    Need("mkfs.btrfs", "the tests of disks with a btrfs", _names("btrfs-progs", zypper="btrfsprogs")),
)

#: where distributions have OVMF without secure boot: its code, and what its variables begin with. Debian's were looked
#: up and started; those of Fedora, Arch and SUSE are as their packages are documented, and untested
OVMF = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"),
)
#: what only machines with firmware=ovmf use
FIRMWARE_NEEDS = (
    Need(
        "OVMF",
        "machines that start by UEFI",
        _names("ovmf", dnf="edk2-ovmf", pacman="edk2-ovmf", zypper="qemu-ovmf-x86_64"),
        lambda: any(Path(path).exists() for pair in OVMF for path in pair),
    ),
)

#: what only the KVM lane uses, to make a host
KVM_NEEDS = (
    Need("mmdebstrap", "the nested host's root file system", _names("mmdebstrap")),
    Need("sqfstar", "the nested host's root file system", _names("squashfs-tools", zypper="squashfs")),
)
#: what is needed, and what only some need
GROUPS = {"": NEEDS, "firmware": FIRMWARE_NEEDS, "tests": TEST_NEEDS, "kvm": KVM_NEEDS}


def read_os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """Return the variables of os-release(5), empty if the file is missing."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): "".join(shlex.split(value)) for name, value in pairs}


def package_tool(release: Mapping[str, str] | None = None) -> str | None:
    """Return the distribution's package tool, or None for one that is not in the table."""
    release = read_os_release() if release is None else release
    likes = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    return next((FAMILIES[like.split("-")[0]] for like in likes if like.split("-")[0] in FAMILIES), None)


def missing(needs: Sequence[Need] = NEEDS) -> list[Need]:
    """Return what the host lacks, in the table's order."""
    return [need for need in needs if not need.is_present()]


def install_command(needs: Sequence[Need], tool: str) -> list[str]:
    """Return the command that installs the packages of `needs`, each once."""
    return [*INSTALL[tool], *dict.fromkeys(need.packages[tool] for need in needs)]


def install_line(needs: Sequence[Need]) -> str:
    """Return one line to paste which installs what `needs` names, with a remark where the names are untested."""
    release = read_os_release()
    tool = package_tool(release)
    if tool is None:
        return "install with your package tool: " + ", ".join(need.name for need in needs)
    sudo = "" if os.geteuid() == 0 else "sudo "
    line = sudo + shlex.join(install_command(needs, tool))
    if tool == "apt-get":
        line = f"{sudo}apt-get update; {line}"
    checked = (release.get("ID"), release.get("VERSION_ID")) in CHECKED
    return line if checked else f"{line}  # package names untested on this distribution"


def _privilege() -> list[str] | None:
    """Return the words before a command that make it run as root without a question, or None."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None


def _say(line: str) -> None:
    # the one place besides cli.py that prints: it runs before the cli's packages are installed
    sys.stdout.write(f"host packages: {line}\n")
    sys.stdout.flush()


def check(wanted: Sequence[Need] = NEEDS) -> int:
    """Report what is missing and the line that fixes it; return the exit code."""
    needs = missing(wanted)
    if not needs:
        _say("complete")
        return 0
    _say("missing " + ", ".join(need.name for need in needs))
    _say(install_line(needs))
    return 1


def install(wanted: Sequence[Need] = NEEDS) -> int:
    """Install what is missing without asking, or print the line to run; return the exit code."""
    needs = missing(wanted)
    tool = package_tool()
    privilege = _privilege() if needs and tool else None
    if tool is None or privilege is None:
        return check(wanted)
    command = install_command(needs, tool)
    _say(f"installing {' '.join(dict.fromkeys(need.packages[tool] for need in needs))}")
    if tool == "apt-get":
        # an unreachable third-party source must not stop the installation: apt-get install has the last word
        _run(privilege, ["apt-get", "update", "-q"])
    done = _run(privilege, command)
    if done.returncode != 0:
        sys.stderr.write((done.stdout + done.stderr)[-2000:])
    return check(wanted)


def _run(privilege: Sequence[str], command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # sudo drops the environment, so the variable rides on the command line
    words = [*privilege, "env", "DEBIAN_FRONTEND=noninteractive", *command]
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def main(arguments: Sequence[str]) -> int:
    """Run `check` (the default) or `install`, for the needs of all or of one group; return the exit code."""
    actions = {"check": check, "install": install}
    action = actions.get(arguments[0] if arguments else "check")
    group = GROUPS.get(arguments[1] if len(arguments) > 1 else "")
    if action is None or group is None or len(arguments) > 2:
        sys.stderr.write("usage: packages.py [check|install] [firmware|tests|kvm]\n")
        return 2
    return action(group)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
