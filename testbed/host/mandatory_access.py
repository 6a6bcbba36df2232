"""Mandatory access control: whether SELinux or AppArmor may be what denies something, and where it writes that down."""

from __future__ import annotations

import contextlib
from pathlib import Path

_ENFORCE = Path("/sys/fs/selinux/enforce")
_LABEL = Path("/proc/self/attr/current")


def denial_hint(enforce: Path = _ENFORCE, label: Path = _LABEL) -> str:
    """Return where a denial that file modes do not explain is written down; nothing where neither confines us."""
    context = _read(label)
    if _read(enforce) == "1":
        return f"SELinux is enforcing for {context or 'this process'}: sudo ausearch -m AVC -ts recent"
    # AppArmor writes `profile (enforce)`; a process without a profile is `unconfined`
    if context.endswith("(enforce)"):
        return f"AppArmor confines this process, {context}: sudo journalctl -k -g apparmor"
    return ""


def _read(path: Path) -> str:
    # without such a module the kernel answers EINVAL
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    return ""
