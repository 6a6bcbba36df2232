"""Control groups: what the kernel lets this process have of memory and CPU time, with all that share them.

Both hierarchies are read: the unified one (Linux Documentation/admin-guide/cgroup-v2.rst) and the older controllers
(cgroup-v1). A group's own ancestors limit it too.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, kw_only=True)
class ControlGroups:
    """The groups of one process, below where they are mounted."""

    mounted: Path = Path("/sys/fs/cgroup")
    membership: Path = Path("/proc/self/cgroup")

    def free_mib(self) -> int | None:
        """Return how many MiB may still be taken, page cache counted as free; None without a limit."""
        unified = (_free(folder, "memory.max", "memory.current", "file") for folder in self._folders(""))
        older = (
            _free(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache")
            for folder in self._folders("memory")
        )
        return min((free >> 20 for free in (*unified, *older) if free is not None), default=None)

    def cpus(self) -> float | None:
        """Return how many CPUs' worth of time the process may use; None without a limit."""
        unified = (_read(folder / "cpu.max") for folder in self._folders(""))
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        older = (" ".join(_read(folder / name) for name in names) for folder in self._folders("cpu"))
        # no limit is `max` or -1
        limits = (re.fullmatch(r"(\d+) (\d+)", text) for text in (*unified, *older))
        return min((int(limit[1]) / int(limit[2]) for limit in limits if limit and int(limit[2])), default=None)

    def _folders(self, controller: str) -> Iterator[Path]:
        """Yield the folders of the process's group and of its ancestors; `""` is the unified hierarchy.

        In a container the path may be one of the host's, which is not there: what is mounted is the container's own.
        """
        top = self.mounted / controller
        for line in _read(self.membership).splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                group = top / path.lstrip("/")
                yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def _free(folder: Path, limit: str, used: str, cache: str) -> int | None:
    most, taken = _read(folder / limit), _read(folder / used)
    if not most.isdecimal() or not taken.isdecimal():
        return None
    cached = re.search(rf"^{cache} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
    return max(0, int(most) - int(taken) + (int(cached[1]) if cached else 0))


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip()
    return ""
