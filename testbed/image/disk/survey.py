"""What a disk holds: its systems, the kernels and boot entries of each, and the settings that stand in its files."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from testbed.image.disk.boot_files import mark_loader_default, newest_first, read_bls, read_extlinux
from testbed.image.disk.grub import read_grub, read_grubenv
from testbed.image.disk.reader import Want
from testbed.image.kernel import release_of_start
from testbed.image.modules import TABLES
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from testbed.image.disk.boot_entry import BootEntry
    from testbed.image.disk.records import DiskRecords, Volume

_TEXT = 1 << 20
#: of one of depmod's tables: those of a distribution have one or two MB
_TABLE = 1 << 24
#: of a kernel: its set-up header and version text are before this
_KERNEL_START = 1 << 16
#: where a volume may have boot files: a root's /boot, a /boot of its own, an EFI system partition mounted or by itself
_BOOTS = ("boot/", "", "boot/efi/", "efi/")
_GRUB = tuple(f"{boot}{folder}/grub.cfg" for boot in ("boot/", "") for folder in ("grub", "grub2"))
_KERNELS = tuple(
    f"{boot}{name}" for boot in _BOOTS for name in ("vmlinuz*", "vmlinux-*", "bzImage*", "kernel-*", "*/*/linux")
)
#: kernels that boot as one EFI file (UKI): they are named, and not looked into
_UNIFIED = tuple(f"{boot}EFI/Linux/*.efi" for boot in _BOOTS)
_MODULES = ("lib/modules", "usr/lib/modules")
_INITRDS = tuple(f"{boot}{name}" for boot in _BOOTS for name in ("initrd*", "initramfs*", "*/*/initrd"))
_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
SETTINGS = (
    "etc/crontab",
    "etc/anacrontab",
    "etc/cron.d/*",
    "etc/cron.hourly/*",
    "etc/cron.daily/*",
    "var/spool/cron/*",
    "var/spool/cron/crontabs/*",
    "etc/rc.local",
    *(f"{top}/udev/rules.d/*.rules" for top in ("etc", "usr/lib", "lib")),
    *(f"{top}/modprobe.d/*.conf" for top in ("etc", "usr/lib", "lib")),
)
DEFAULT_GRUB = ("etc/default/grub", "etc/default/grub.d/*.cfg", "etc/kernel/cmdline")

WANTS = (
    *(Want(kind="glob", pattern=name, limit=_TEXT) for name in (*_OS_RELEASE, "etc/fstab", *DEFAULT_GRUB, *SETTINGS)),
    *(Want(kind="glob", pattern=name, limit=_TEXT) for name in _GRUB),
    *(Want(kind="glob", pattern=f"{boot}{folder}/grubenv") for boot in ("boot/", "") for folder in ("grub", "grub2")),
    *(Want(kind="glob", pattern=f"{boot}loader/loader.conf") for boot in _BOOTS),
    *(Want(kind="glob", pattern=f"{boot}loader/entries/*.conf") for boot in _BOOTS),
    *(
        Want(kind="glob", pattern=f"{boot}{name}")
        for boot in _BOOTS[:2]
        for name in ("extlinux/extlinux.conf", "syslinux/syslinux.cfg")
    ),
    *(
        Want(kind="glob", pattern=name, limit=_KERNEL_START)
        for name in (*_KERNELS, *(f"{base}/*/vmlinuz" for base in _MODULES))
    ),
    *(Want(kind="glob", pattern=f"lib/modules/*/{name}", limit=_TABLE) for name in TABLES),
    *(Want(kind="glob", pattern=name, limit=0) for name in (*_UNIFIED, *_INITRDS, *(f"{base}/*" for base in _MODULES))),
)


@dataclass(frozen=True, kw_only=True)
class DiskKernelFile:
    """A kernel of a disk."""

    release: str  #: as `uname -r` gives it; empty if the file is no kernel that can be used
    volume: str
    path: str
    size: int
    modules: tuple[str, str] | None  #: volume and folder of its modules; None: the disk has none
    error: str = ""  #: why it cannot be used


@dataclass(frozen=True, kw_only=True)
class SettingsFile:
    """A file of a system's settings."""

    path: str
    text: str


@dataclass(frozen=True, kw_only=True)
class System:
    """One operating system of a disk."""

    name: str  #: as its os-release has it; empty: it has none
    volume: str  #: that of its root; empty if there is no root
    os_release: Mapping[str, str]
    kernels: tuple[DiskKernelFile, ...]
    initrds: tuple[str, ...]
    entries: tuple[BootEntry, ...]
    defaults: tuple[SettingsFile, ...]  #: what grub.cfg is made from
    settings: tuple[SettingsFile, ...]

    def default_kernel(self) -> DiskKernelFile | None:
        """Return the kernel of the default boot entry, or else the newest; None if there is none to be used."""
        usable = [kernel for kernel in self.kernels if kernel.release]
        default = next((entry for entry in self.entries if entry.default), None)
        if default and (named := self.kernel_of(default)) is not None:
            return named
        return max(usable, key=lambda kernel: _by_version(kernel.release), default=None)

    def kernel_of(self, entry: BootEntry) -> DiskKernelFile | None:
        """Return the kernel that an entry starts: of those to be used the one whose path agrees most from its end."""
        usable = [kernel for kernel in self.kernels if kernel.release]
        best = max(usable, key=lambda kernel: _agreement(kernel.path, entry.kernel), default=None)
        return best if best and _agreement(best.path, entry.kernel) else None


def _agreement(left: str, right: str) -> int:
    """Return how many parts two paths have in common at their ends."""
    count = 0
    for one, other in zip(reversed(left.split("/")), reversed(right.split("/")), strict=False):
        if one != other or not one:
            break
        count += 1
    return count


def _by_version(release: str) -> list[tuple[int, int, str]]:
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in release.replace("-", ".").split(".")]


def systems_of(records: DiskRecords) -> tuple[System, ...]:
    """Return the systems of a disk; one without a name if there are kernels or boot entries and no root."""
    roots = [volume for volume in records.volumes if _os_release(volume) is not None]
    if len(roots) <= 1:
        system = _system(roots[0] if roots else None, records.volumes)
        return (system,) if roots or system.kernels or system.entries else ()
    return tuple(_system(root, [root, *_mounted(root, records.volumes)]) for root in roots)


def _mounted(root: Volume, volumes: Iterable[Volume]) -> list[Volume]:
    """Return the volumes that a root's fstab mounts."""
    devices = {line.split()[0] for line in _text(root, "etc/fstab").split("\n") if line.split() and line[0] != "#"}
    return [volume for volume in volumes if volume is not root and devices & _names_of(volume)]


def _names_of(volume: Volume) -> set[str]:
    """Return how an fstab may name a volume."""
    names = {f"/dev/{volume.name}"}
    for kind, value in (("uuid", volume.uuid), ("label", volume.label)):
        if value:
            names |= {f"{kind.upper()}={value}", f'{kind.upper()}="{value}"', f"/dev/disk/by-{kind}/{value}"}
    group, slash, logical = volume.name.partition("/")
    if slash:
        names.add(f"/dev/mapper/{group.replace('-', '--')}-{logical.replace('-', '--')}")
    return names


def _system(root: Volume | None, volumes: Iterable[Volume]) -> System:
    volumes = list(volumes)
    release = (_os_release(root) if root else None) or {}
    files = [volume for volume in [root] if volume]
    return System(
        name=release.get("PRETTY_NAME") or release.get("NAME", ""),
        volume=root.name if root else "",
        os_release=release,
        kernels=tuple(_kernels(volumes)),
        initrds=tuple(f"{volume.name}:/{path}" for volume in volumes for path in _matching(volume, _INITRDS)),
        entries=tuple(_entries(volumes)),
        defaults=tuple(each for volume in files for each in _settings(volume, DEFAULT_GRUB)),
        settings=tuple(each for volume in files for each in _settings(volume, SETTINGS)),
    )


def _os_release(volume: Volume) -> dict[str, str] | None:
    """Return the variables of os-release(5); None if there is no such file."""
    path = next((path for path in _OS_RELEASE if path in volume.files), None)
    if path is None:
        return None
    said: dict[str, str] = {}
    for line in _text(volume, path).split("\n"):
        name, separator, value = line.partition("=")
        if separator and name.isidentifier():
            said[name] = _shell_value(value)
    return said


def _shell_value(text: str) -> str:
    try:
        return "".join(shlex.split(text))
    except ValueError:
        return text


def _text(volume: Volume, path: str) -> str:
    file = volume.files.get(path)
    return file.content.decode("utf-8", "replace") if file else ""


def _matching(volume: Volume, patterns: Iterable[str]) -> list[str]:
    """Return the files of a volume that match one of the patterns of a request, sorted."""
    parts = [pattern.split("/") for pattern in patterns]
    return sorted(path for path in volume.files if any(_matches(path.split("/"), pattern) for pattern in parts))


def _matches(path: list[str], pattern: list[str]) -> bool:
    # as glob(3) does: a star stays within its part
    return len(path) == len(pattern) and all(fnmatchcase(*pair) for pair in zip(path, pattern, strict=True))


def _settings(volume: Volume, patterns: Iterable[str]) -> Iterator[SettingsFile]:
    for path in _matching(volume, patterns):
        if path.startswith("lib/") and f"usr/{path}" in volume.files:
            continue  # /lib is a link to /usr/lib
        yield SettingsFile(path=path, text=_text(volume, path))


# -- kernels --


def _kernels(volumes: Iterable[Volume]) -> Iterator[DiskKernelFile]:
    """Yield the kernels of a system; those that cannot be used say why."""
    volumes = list(volumes)
    for volume in volumes:
        for path in _matching(volume, _UNIFIED):
            error = "a kernel in one EFI file with its initrd (UKI), which the test bed does not unpack"
            size = volume.files[path].size
            yield DiskKernelFile(release="", volume=volume.name, path=path, size=size, modules=None, error=error)
    seen: set[str] = set()
    patterns = (*_KERNELS, *(f"{base}/*/vmlinuz" for base in _MODULES))
    for volume in volumes:
        for path in _matching(volume, patterns):
            file = volume.files[path]
            if path.endswith((".old", ".sig", ".hmac")) or not file.size:
                continue
            release, error = "", file.error
            try:
                release = release or release_of_start(file.content, source=f"{volume.name}:/{path}")
            except InputError as problem:
                error = error or problem.message.rpartition(": ")[2]
            if release and release in seen:
                continue  # a distribution may keep it in /boot and among the modules
            seen.add(release)
            modules = _modules(release, [volume, *volumes]) if release else None
            yield DiskKernelFile(
                release=release, volume=volume.name, path=path, size=file.size, modules=modules, error=error
            )


def _modules(release: str, volumes: Iterable[Volume]) -> tuple[str, str] | None:
    places = (
        (volume.name, f"{base}/{release}")
        for volume in volumes
        for base in _MODULES
        if f"{base}/{release}" in volume.folders
    )
    return next(places, None)


# -- boot entries --


def _entries(volumes: list[Volume]) -> Iterator[BootEntry]:
    """Yield the entries of every boot loader's files; the default of the first that has any is the default."""
    found: list[BootEntry] = []
    for entries in (_grub(volumes), _loader(volumes), _extlinux(volumes)):
        new = [
            entry
            for entry in entries
            if (entry.title, entry.kernel, entry.cmdline) not in {_key(each) for each in found}
        ]
        found += [replace(entry, default=entry.default and not any(each.default for each in found)) for entry in new]
    yield from found


def _key(entry: BootEntry) -> tuple[str, str, str]:
    return entry.title, entry.kernel, entry.cmdline


def _grub(volumes: list[Volume]) -> list[BootEntry]:
    bls = newest_first(_bls(volumes))
    for volume in volumes:
        for path in _matching(volume, _GRUB):
            folder = path.rpartition("/")[0]
            environment = read_grubenv(_text(volume, f"{folder}/grubenv"))
            source = f"{volume.name}:/{path}"
            entries = read_grub(_text(volume, path), source=source, environment=environment, entries=bls)
            if entries:
                return entries
    return []


def _bls(volumes: Iterable[Volume]) -> list[BootEntry]:
    patterns = [f"{boot}loader/entries/*.conf" for boot in _BOOTS]
    found = (
        read_bls(_text(volume, path), name=path.rpartition("/")[2], source=f"{volume.name}:/{path}")
        for volume in volumes
        for path in _matching(volume, patterns)
    )
    return [entry for entry in found if entry]


def _loader(volumes: list[Volume]) -> list[BootEntry]:
    confs = (_text(volume, f"{boot}loader/loader.conf") for volume in volumes for boot in _BOOTS)
    # what blscfg has shown already has the variables of grubenv in it
    entries = [entry for entry in newest_first(_bls(volumes)) if "$" not in entry.cmdline]
    return mark_loader_default(entries, next(filter(None, confs), ""))


def _extlinux(volumes: Iterable[Volume]) -> list[BootEntry]:
    patterns = [f"{boot}{name}" for boot in _BOOTS[:2] for name in ("extlinux/extlinux.conf", "syslinux/syslinux.cfg")]
    return [
        entry
        for volume in volumes
        for path in _matching(volume, patterns)
        for entry in read_extlinux(_text(volume, path), source=f"{volume.name}:/{path}")
    ]
