"""The host's CPU: which one it is, and what it offers."""

from __future__ import annotations

import platform
import re
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
#: what a guest under `-cpu host` is given of the CPU; `flags` shrink with the kernel's options and the microcode
_IDENTITY = ("vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags")


def cpu_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """Return the flags of the first CPU, as the kernel names them."""
    return frozenset(_first_cpu(cpuinfo).get("flags", "").split())


def cpu_identity(cpuinfo: Path = _CPUINFO) -> list[str]:
    """Return what tells this CPU, as this kernel runs it, from another one."""
    fields = _first_cpu(cpuinfo)
    return [platform.release(), platform.version(), *(fields.get(name, "") for name in _IDENTITY)]


def _first_cpu(cpuinfo: Path) -> dict[str, str]:
    text = cpuinfo.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    return dict(re.findall(r"^([^:\n]*?)\s*:[ \t]*(.*)", text, re.MULTILINE))
