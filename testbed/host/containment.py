"""Containment: what the host's kernel lets a QEMU of ours do, should its guest take it over.

A test bed that root started gives each QEMU a user of its own, which owns nothing but the disks made for the run and
has no capability; a network of its own, in which there is nothing; and a view of the file system that is read-only but
for the run's folder and the machine's sockets. What hides files from that user (a home of mode 0700) is covered there
by an empty folder in which only the files that the machine needs are found, under their own paths. A /dev/kvm that is
not for that user to open is covered by a node of its own.

The privileges go before QEMU is executed. QEMU's own `-runas` would clear the parent-death signal, and ask for a system
call that the seccomp sandbox denies. A test bed that any other user started has nothing to drop.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.packages import find_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: users that no distribution and no service hands out: between the ranges of systemd-homed and of DynamicUser
#: (systemd's docs/UIDS-GIDS.md); one for each test bed, so that QEMUs of different beds cannot reach each other
_USERS = range(60706, 61184)
#: `off` runs QEMU as the user who started the test bed
SWITCH = "TESTBED_CONTAIN"
#: in a rundir: how its QEMU was contained
CONTAINED = "containment.txt"
#: what every QEMU of ours is denied: forking, set-uid, resource limits, obsolete system calls
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
KVM = Path("/dev/kvm")
#: where files wait while what hides them is covered; it is always there, and nobody keeps files in it
_STAGE = Path("/sys")
_NAMESPACES = ("unshare", "--mount", "--net", "--propagation", "private", "--")


@dataclass(frozen=True, kw_only=True)
class Containment:
    """How one QEMU is contained."""

    uid: int | None  #: its user; None: that of the test bed
    alone: bool  #: whether it has a network and a view of the file system of its own
    why: str  #: why not, where it is not

    def __str__(self) -> str:
        user = f"a user of its own ({self.uid})" if self.uid is not None else "the user of the test bed"
        view = ", no network, a read-only view of the file system" if self.alone else ""
        return f"{user}{view}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True, kw_only=True)
class Places:
    """The files and folders a QEMU needs."""

    read: frozenset[Path]
    write: frozenset[Path]
    program: Path | None  #: QEMU, unless the command says where all that it needs is
    kvm: bool = False  #: whether it opens /dev/kvm

    @property
    def all(self) -> list[Path]:
        """Return all of them, folders before what is in them."""
        return sorted(self.read | self.write)


def own_user() -> int | None:
    """Return the user that this test bed's QEMUs get; None if it has no right to choose one, or is told not to."""
    if os.geteuid() != 0 or os.environ.get(SWITCH) == "off":
        return None
    uid = _USERS[os.getpid() % len(_USERS)]
    return uid if _is_mapped(uid) else None


def _why_no_user() -> str:
    if os.geteuid() != 0:
        return "only root can give it one"
    return f"{SWITCH}=off" if os.environ.get(SWITCH) == "off" else "this user namespace has no other user for it"


def admit(path: Path) -> None:
    """Let this test bed's QEMUs write a file, or put files into a folder in which they can remove no others."""
    uid = own_user()
    if uid is None:
        return
    if path.is_dir():
        os.chown(path, -1, uid)
        path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_ISVTX | stat.S_IRWXG)
    else:
        os.chown(path, uid, uid)


def find_places(argv: Sequence[str], *, folders: Iterable[Path]) -> Places:
    """Return what a QEMU's command names and is there; `folders` are those it may put files into."""
    images = _images(argv)
    read = {path for word in argv for path in _paths(word) if path.is_file() or path.is_dir()}
    read |= {path for path, read_only in images if read_only}
    written = {path for path, read_only in images if not read_only}
    program = None if "-L" in argv else Path(argv[0])
    kvm = any(option == "-accel" and word.partition(",")[0] == "kvm" for option, word in pairwise(argv))
    return Places(read=frozenset(read), write=frozenset({*folders, *written}), program=program, kvm=kvm)


def containment(places: Places) -> Containment:
    """Return how a QEMU that needs these places can be contained on this host."""
    uid = own_user()
    if uid is None:
        return Containment(uid=None, alone=False, why=_why_no_user())
    alone = _can_unshare()
    if denied := _denied_to(uid, places, alone=alone):
        return Containment(uid=None, alone=False, why=denied)
    return Containment(uid=uid, alone=alone, why="" if alone else "not permitted to create namespaces")


def _denied_to(uid: int, places: Places, *, alone: bool) -> str:
    """Return why a QEMU with this user could not work; nothing if it can."""
    if denied := [path for path in places.write if path.is_file() and not _may_write(path, uid)]:
        return f"{min(denied)} is not writable by other users"
    if denied := [path for path in places.read if not _may_read(path)]:
        return f"{min(denied)} is not readable by other users"
    if places.program and hiding(places.program):
        # one that was built there takes files from around it that no command names
        return f"{places.program} is in a folder that other users cannot enter"
    hidden = {top for path in places.all if (top := hiding(path))}
    if hidden and not alone:
        return f"{min(hidden)} hides files from it"
    if places.kvm and not _others_open(KVM) and not (alone and _can_make_node(KVM)):
        return f"{KVM} cannot be opened by other users"
    return ""


def contained(command: Sequence[str], how: Containment, places: Places) -> list[str]:
    """Return the command that runs `command` so contained; the process stays the same one."""
    if how.uid is None:
        return list(command)
    dropped = [
        *(_program("setpriv"), f"--reuid={how.uid}", f"--regid={how.uid}", _groups()),
        *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--pdeathsig", "KILL", "--"),
        *command,
    ]
    if not how.alone:
        return dropped
    node = _own_node(KVM, how.uid) if places.kvm and not _others_open(KVM) else []
    script = "; ".join(("set -e", *_view(places, node), 'exec "$@"'))
    unshare, *options = _NAMESPACES
    return [_program(unshare), *options, "sh", "-c", script, "sh", *dropped]


def hiding(path: Path) -> Path | None:
    """Return the topmost folder that lets no other user through to a path."""
    closed = (folder for folder in reversed(path.parents) if not folder.stat().st_mode & stat.S_IXOTH)
    return next(closed, None)


def _view(places: Places, device: Sequence[str]) -> list[str]:
    """Return the shell commands that make the view in a mount namespace of its own; `device` are those for a device."""
    stage = shlex.quote(str(_STAGE))
    tops = sorted({top for path in places.all if (top := hiding(path))})
    lines = [f"mount -n -t tmpfs -o mode=755 none {stage}"]
    # what is in sight anyway and only read needs nothing: each mount costs two milliseconds
    moved = [path for path in places.all if path in places.write or hiding(path)]
    shown = [path for path in moved if not any(other in path.parents for other in moved)]
    for number, path in enumerate(shown):
        make = "mkdir" if path.is_dir() else ":>"
        lines.append(f"{make} {stage}/{number}; mount -n --rbind {shlex.quote(str(path))} {stage}/{number}")
    lines += [f"mount -n -t tmpfs -o mode=755 none {shlex.quote(str(top))}" for top in tops]
    lines.append("mount -n -o remount,bind,ro /")
    for number, path in enumerate(shown):
        place = shlex.quote(str(path))
        if any(top in path.parents for top in tops):
            lines.append(f"mkdir -p {place if path.is_dir() else shlex.quote(str(path.parent))}")
            lines.append(":" if path.is_dir() else f":> {place}")
        lines.append(f"mount -n --move {stage}/{number} {place}")
        if not any(path == each or path in each.parents for each in places.write):
            lines.append(f"mount -n -o remount,bind,ro {place}")
    return [*lines, *device, f"umount -n {stage}"]


def _own_node(device: Path, uid: int) -> list[str]:
    """Return the shell commands that cover a device with a node which a user may open, made on the stage."""
    number = device.stat().st_rdev
    node = shlex.quote(str(_STAGE / "device"))
    return [
        f"mknod -m 600 {node} c {os.major(number)} {os.minor(number)}",
        f"chown {uid} {node}",
        f"mount -n --bind {node} {shlex.quote(str(device))}",
    ]


def _paths(word: str) -> list[Path]:
    """Return the paths that are there and that a word is or holds: a variable's value (modules), a list (libraries)."""
    text = re.sub(r"^[A-Z_]+=(?=/)", "", word)
    # Path.exists() raises for what is too long, as a kernel command line may be
    parts = [text] if os.path.exists(text) else text.split(":")  # noqa: PTH110
    return [Path(part) for part in parts if part.startswith("/") and os.path.exists(part)]  # noqa: PTH110


def _images(argv: Sequence[str]) -> list[tuple[Path, bool]]:
    """Return the images of disks and flash that a command names, and whether each is only read."""
    nodes = [json.loads(word) for option, word in pairwise(argv) if option == "-blockdev"]
    files = [node for node in nodes if "filename" in node.get("file", {})]
    return [(Path(node["file"]["filename"]), node.get("read-only", False)) for node in files]


def _may_write(path: Path, uid: int) -> bool:
    state = path.stat()
    both = stat.S_IROTH | stat.S_IWOTH
    return state.st_uid == uid or state.st_mode & both == both


def _may_read(path: Path) -> bool:
    wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
    return path.stat().st_mode & wanted == wanted


def _others_open(device: Path) -> bool:
    """Tell whether a user in a device's group, unless that is root's, may open it for reading and writing."""
    state = device.stat()
    group = stat.S_IRGRP | stat.S_IWGRP if state.st_gid else stat.S_IROTH | stat.S_IWOTH
    return state.st_mode & group == group


def _groups() -> str:
    """Return the option for the groups QEMU has beside its own: that of /dev/kvm."""
    if KVM.exists() and KVM.stat().st_gid:
        return f"--groups={KVM.stat().st_gid}"
    return "--clear-groups"


def _program(name: str) -> str:
    return find_program(name) or name


def _is_mapped(uid: int) -> bool:
    """Tell whether a user exists in this user namespace: that of a container may have few."""
    for line in Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines():
        first, _, count = map(int, line.split())
        if first <= uid < first + count:
            return True
    return False


@cache
def _can_unshare() -> bool:
    """Tell whether namespaces can be made and mounted in: root of a container often may not, and a chroot has no /."""
    stage = shlex.quote(str(_STAGE))
    return _STAGE.is_dir() and _works_alone(
        f"mount -n -t tmpfs none {stage} && mount -n -o remount,bind,ro / && umount -n {stage}"
    )


@cache
def _can_make_node(device: Path) -> bool:
    """Tell whether a node of a device can be made and opened: not in a container with users of its own."""
    stage = shlex.quote(str(_STAGE))
    own = " && ".join(_own_node(device, os.geteuid()))
    return _works_alone(f"mount -n -t tmpfs none {stage} && {own} && : <> {shlex.quote(str(device))}")


def _works_alone(script: str) -> bool:
    """Tell whether a shell script succeeds in namespaces of its own."""
    unshare, *options = _NAMESPACES
    probe = [_program(unshare), *options, "sh", "-c", script]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0
