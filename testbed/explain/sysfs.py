"""What /sys and /proc/modules hold, as people print them: `find`, `grep -r .`, `ls -l`, `lsmod`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from testbed.explain.source import Part

_ADDRESS = r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]"
#: `find /sys/kernel/iommu_groups -type l`
_MEMBER = re.compile(rf"/sys/kernel/iommu_groups/([0-9]{{1,6}})/devices/({_ADDRESS})(?=\s|$)")
#: `ls -l /sys/bus/pci/devices/*/iommu_group`
_LINK = re.compile(rf"({_ADDRESS})/iommu_group -> \S{{0,200}}/iommu_groups/([0-9]{{1,6}})$")
#: `grep . /sys/bus/pci/devices/0000:01:00.0/reset_method`
_FILE = re.compile(rf"/sys/\S{{1,400}}/({_ADDRESS})/([a-z0-9_]{{1,40}}):(.{{0,200}})")
_MODULE = re.compile(r"([a-z0-9_]{1,60})\s+[0-9]{1,10}\s+-?[0-9]{1,6}(?:\s|$)")

#: what stands there, and what cites it
Cited = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Sysfs:
    """What was given of /sys: nothing is known of what is not in it."""

    groups: Mapping[Bdf, Cited] = field(default_factory=dict)  #: the IOMMU group of each function
    files: Mapping[Bdf, Mapping[str, Cited]] = field(default_factory=dict)

    def file(self, address: Bdf, name: str) -> Cited | None:
        """Return what a function's file holds."""
        return self.files.get(address, {}).get(name)


@dataclass(frozen=True, kw_only=True)
class Modules:
    """The loaded modules, or some of them."""

    loaded: Mapping[str, str]  #: each with what cites it
    whole: bool  #: lsmod's heading is there, so that what is not listed is not loaded
    span: str  #: what cites the list


def is_sysfs(text: str) -> bool:
    """Return whether a line says something of /sys."""
    return any(pattern.search(text[:1000]) for pattern in (_MEMBER, _LINK, _FILE))


def is_module(text: str) -> bool:
    """Return whether a line is one of lsmod's or /proc/modules'."""
    return _MODULE.match(text) is not None


def read_sysfs(parts: Iterable[Part]) -> Sysfs:
    """Read what several commands printed of one machine."""
    groups: dict[Bdf, Cited] = {}
    files: dict[Bdf, dict[str, Cited]] = {}
    for line in (line for part in parts for line in part.lines):
        text = line.text.strip()[:1000]
        if member := _MEMBER.search(text):
            groups[Bdf.parse(member[2])] = member[1], line.reference
        elif link := _LINK.search(text):
            groups[Bdf.parse(link[1])] = link[2], line.reference
        elif file := _FILE.search(text):
            files.setdefault(Bdf.parse(file[1]), {})[file[2]] = file[3].strip(), line.reference
    return Sysfs(groups=groups, files=files)


def read_modules(part: Part) -> Modules:
    """Read lsmod or /proc/modules."""
    matches = ((_MODULE.match(line.text), line.reference) for line in part.lines)
    return Modules(
        loaded={match[1]: reference for match, reference in matches if match},
        whole=part.lines[0].text.startswith("Module "),
        span=f"{part.lines[0].reference}-{part.lines[-1].number}",
    )
