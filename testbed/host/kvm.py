"""KVM: whether it runs guests here, and what is wrong where it does not.

What the canary showed is remembered on the disk: a yes until something changes on which it depends, a no for a short
while only, since it may be fixed where nothing here would show it.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import json
import os
import stat
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.cache import cache_folder
from testbed.host.canary import build_canary, canary_digest, run_canary
from testbed.host.containment import KVM, SWITCH
from testbed.host.cpu import cpu_flags
from testbed.host.mandatory_access import denial_hint
from testbed.model.errors import BedError
from testbed.model.json_reader import parse_json

if TYPE_CHECKING:
    from testbed.host.qemu import Qemu

DEVICE = KVM
#: models that start fast under each accelerator, see `Accel.cpu`
FAST_CPU = {"kvm": "host", "tcg": "qemu64"}

_TCG_SECONDS = 60.0
#: a working KVM is faster than TCG: this allows for a host that is busy only now, and for slow nesting
_LEAST_SECONDS, _TIMES_TCG = 2.0, 10.0
#: for how long a no is believed
_NO_SECONDS = 600.0
_BROKEN_HINT = (
    "virtualization is broken or disabled here; in a virtual machine, enable nesting on the outer host; "
    "or use --accel tcg"
)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Whether KVM runs a guest of this QEMU, how that is known, and what fixes it."""

    works: bool
    why: str
    hint: str = ""


@lru_cache
def prove_kvm(qemu: Qemu, *, retry: bool = False) -> Proof:
    """Return whether KVM runs guests, asking once in a process and QEMU; `retry` forgets a remembered no."""
    refusal = check_device(DEVICE)
    if refusal:
        return refusal
    memory = _memory(qemu)
    if (remembered := _recall(memory)) and (remembered.works or not retry):
        return replace(remembered, why=f"{remembered.why}, as an earlier check found")
    return _try_canary(qemu, memory)


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
    """Return a name that differs as soon as anything does on which the answer is known to depend."""
    binary, node = qemu.resolve().stat(), device.stat()
    depends_on = [
        [str(qemu.resolve()), binary.st_size, binary.st_mtime_ns],
        Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        # a reloaded module makes a new node: its options may have changed
        [node.st_mode, node.st_uid, node.st_gid, node.st_ino, node.st_ctime_ns],
        [os.geteuid(), os.getegid(), sorted(os.getgroups()), os.environ.get(SWITCH)],
        canary_digest(),
    ]
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:32]


def _try_canary(qemu: Qemu, memory: Path | None) -> Proof:
    """Run the canary under TCG for a measure, then under KVM, and write down what came of that."""
    try:
        image = build_canary()
    except BedError as error:
        return Proof(works=False, why=f"cannot be proven: {error.message}", hint=error.hint or "see: testbed doctor")
    measure = run_canary(qemu, "tcg", FAST_CPU["tcg"], image=image, limit=_TCG_SECONDS)
    if not measure.alive:
        return Proof(works=False, why=f"cannot be proven: under TCG, {measure}", hint=f"check that {qemu.path} works")
    run = run_canary(qemu, "kvm", FAST_CPU["kvm"], image=image, limit=canary_limit(measure.seconds))
    if run.alive:
        proof = Proof(works=True, why=str(run))
    else:
        proof = Proof(works=False, why=f"{DEVICE} opens, but {run}", hint=_unusable_hint(run.words))
    _remember(memory, proof)
    return proof


def _unusable_hint(words: str) -> str:
    """Return what fixes a KVM that cannot be used, told by QEMU's first words."""
    if os.strerror(errno.EACCES) in words:
        mend = denial_hint() or f"{SWITCH}=off runs QEMU as the user who may open it"
        return f"QEMU is not permitted to open {DEVICE}: {mend}; or use --accel tcg"
    return _BROKEN_HINT


def _memory(qemu: Qemu) -> Path | None:
    with contextlib.suppress(OSError):
        return cache_folder("kvm") / memory_name(qemu.path, DEVICE)
    return None


def _recall(memory: Path | None) -> Proof | None:
    """Return what was written down, unless it is a no of long ago; None for nothing, or nothing that can be read."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        if memory is not None:
            age = time.time() - memory.stat().st_mtime
            proof = Proof(**parse_json(memory.read_text(encoding="utf-8")))
            return proof if proof.works or 0 <= age < _NO_SECONDS else None
    return None


def _remember(memory: Path | None, proof: Proof) -> None:
    """Write an answer down; a host whose cache cannot be written asks again each time."""
    if memory is None:
        return
    with contextlib.suppress(OSError):
        draft = memory.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(asdict(proof)) + "\n", encoding="utf-8")
        draft.replace(memory)


def _hint(error: OSError, device: Path) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return _permission_hint(device)
    return missing_hint(cpu_flags(), loaded=Path("/sys/class/misc/kvm").exists())


def _permission_hint(device: Path) -> str:
    if os.access(device, os.R_OK | os.W_OK):
        # by its mode and owner it may be opened
        return (
            denial_hint()
            or "the control group or container denies access to the device: start it with --device /dev/kvm"
        )
    node = device.stat()
    both = stat.S_IRGRP | stat.S_IWGRP
    if node.st_gid == 0 or node.st_mode & both != both:
        return f"give a group access and join that group: sudo chgrp kvm {device} && sudo chmod g+rw {device}"
    try:
        group = grp.getgrgid(node.st_gid).gr_name
    except KeyError:  # in a container the number may have no name
        return f"join the group that owns it: number {node.st_gid}"
    return f"join the group that owns it: sudo usermod -aG {group} $USER, and log in again"


def missing_hint(flags: frozenset[str], *, loaded: bool) -> str:
    """Return what brings the device, told by the CPU's flags and whether the module is `loaded`."""
    if loaded:
        return "the kernel has KVM, but this container does not: start it with --device /dev/kvm"
    if "vmx" in flags:
        return "load the module: sudo modprobe kvm_intel"
    if "svm" in flags:
        return "load the module: sudo modprobe kvm_amd"
    if "hypervisor" in flags:
        return "this host is a virtual machine that offers no virtualization: enable nesting on the outer host"
    return "the CPU offers no virtualization: enable VT-x or AMD-V in the firmware"
