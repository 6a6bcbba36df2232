"""KVM: whether it runs guests here, and what is wrong where it does not.

Only a yes is remembered on the disk: a no may be mended at any time, and costs no more than the canary's limit.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.cache import cache_folder
from testbed.host.canary import build_canary, canary_digest, run_canary
from testbed.model.errors import BedError

if TYPE_CHECKING:
    from testbed.host.qemu import Qemu

DEVICE = Path("/dev/kvm")
#: models that start fast under each accelerator, see `Accel.cpu`
FAST_CPU = {"kvm": "host", "tcg": "qemu64"}

_TCG_SECONDS = 60.0
#: a working KVM is faster than TCG: this allows for a host that is busy only now, and for slow nesting
_LEAST_SECONDS, _TIMES_TCG = 2.0, 10.0
_BROKEN_HINT = (
    "virtualization is broken or switched off here; in a virtual machine, enable nesting on the outer host; "
    "or use --accel tcg"
)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Whether KVM runs a guest of this QEMU, how that is known, and what mends it."""

    works: bool
    why: str
    hint: str = ""


@lru_cache
def prove_kvm(qemu: Qemu) -> Proof:
    """Return whether KVM runs guests, asking once in a process and QEMU."""
    refusal = check_device(DEVICE)
    if refusal:
        return refusal
    memory = _memory(qemu)
    remembered = _recall(memory)
    if remembered:
        return Proof(works=True, why=f"{remembered}, as remembered")
    proof = _try_canary(qemu)
    if proof.works:
        _remember(memory, proof.why)
    return proof


def check_device(device: Path) -> Proof | None:
    """Return what keeps the device from being opened for reading and writing, or None."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Proof(works=False, why=f"{device}: {error.strerror}", hint=f"{_hint(error, device)}; or use --accel tcg")
    return None


def canary_limit(tcg_seconds: float) -> float:
    """Return how long a canary may take under KVM, given what it took under TCG."""
    return _LEAST_SECONDS + _TIMES_TCG * tcg_seconds


def memory_name(qemu: Path, device: Path) -> str:
    """Return a name that differs as soon as anything does on which a yes depends."""
    binary, node = qemu.resolve().stat(), device.stat()
    depends_on = [
        [str(qemu.resolve()), binary.st_size, binary.st_mtime_ns],
        Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        # a reloaded module makes a new node: its options may have changed
        [node.st_mode, node.st_uid, node.st_gid, node.st_ino, node.st_ctime_ns],
        [os.geteuid(), os.getegid(), sorted(os.getgroups())],
        canary_digest(),
    ]
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:32]


def _try_canary(qemu: Qemu) -> Proof:
    """Run the canary under TCG for a measure, then under KVM."""
    try:
        image = build_canary()
    except BedError as error:
        return Proof(works=False, why=f"cannot be proven: {error.message}", hint=error.hint or "see: testbed doctor")
    measure = run_canary(qemu, "tcg", FAST_CPU["tcg"], image=image, limit=_TCG_SECONDS)
    if not measure.alive:
        return Proof(works=False, why=f"cannot be proven: under TCG, {measure}", hint=f"does {qemu.path} work?")
    run = run_canary(qemu, "kvm", FAST_CPU["kvm"], image=image, limit=canary_limit(measure.seconds))
    if run.alive:
        return Proof(works=True, why=str(run))
    return Proof(works=False, why=f"{DEVICE} opens, but {run}", hint=_BROKEN_HINT)


def _memory(qemu: Qemu) -> Path | None:
    with contextlib.suppress(OSError):
        return cache_folder("kvm") / memory_name(qemu.path, DEVICE)
    return None


def _recall(memory: Path | None) -> str:
    with contextlib.suppress(OSError):
        return memory.read_text(encoding="utf-8").strip() if memory else ""
    return ""


def _remember(memory: Path | None, why: str) -> None:
    """Write a yes down; a host whose cache cannot be written proves it again each time."""
    if memory is None:
        return
    with contextlib.suppress(OSError):
        draft = memory.with_suffix(f".{os.getpid()}")
        draft.write_text(why + "\n", encoding="utf-8")
        draft.replace(memory)


def _hint(error: OSError, device: Path) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return _permission_hint(device)
    return missing_hint(
        Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"),
        loaded=Path("/sys/class/misc/kvm").exists(),
    )


def _permission_hint(device: Path) -> str:
    node = device.stat()
    both = stat.S_IRGRP | stat.S_IWGRP
    if node.st_gid == 0 or node.st_mode & both != both:
        return f"let a group use it and join that: sudo chgrp kvm {device} && sudo chmod g+rw {device}"
    try:
        group = grp.getgrgid(node.st_gid).gr_name
    except KeyError:  # in a container the number may have no name
        return f"join the group that owns it: number {node.st_gid}"
    return f"join the group that owns it: sudo usermod -aG {group} $USER, and log in again"


def missing_hint(cpuinfo: str, *, loaded: bool) -> str:
    """Return what brings the device, told by what the CPU offers and whether the module is `loaded`."""
    if loaded:
        return "the kernel has KVM, but this container does not: start it with --device /dev/kvm"
    flags = re.search(r"^flags\s*:(.*)", cpuinfo, re.MULTILINE)
    offered = set(flags[1].split()) if flags else set()
    if "vmx" in offered:
        return "load the module: sudo modprobe kvm_intel"
    if "svm" in offered:
        return "load the module: sudo modprobe kvm_amd"
    if "hypervisor" in offered:
        return "this host is a virtual machine that offers no virtualization: enable nesting on the outer host"
    return "the CPU offers no virtualization: enable VT-x or AMD-V in the firmware"
