"""`testbed image show`: what a disk image holds, and what of it touches PCI."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from testbed.cli.options import AsJson
from testbed.cli.terminal import out, plain, show_progress
from testbed.explain.setting import option_effects, settings_of
from testbed.image.disk.disk_name import FORM, is_disk, read_disk_name
from testbed.image.disk.disk_store import survey_disk
from testbed.image.disk.survey import systems_of
from testbed.image.recipe import image_name
from testbed.model.errors import InputError
from testbed.model.printable import harmless
from testbed.report.folded import Folded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.explain.statement import Statement
    from testbed.image.disk.boot_entry import BootEntry
    from testbed.image.disk.records import DiskRecords, Volume
    from testbed.image.disk.survey import DiskKernelFile, System

_SCHEMA = 1
#: what the file system of a volume is called where the test bed cannot look into it
_CLOSED = {
    "luks": "encrypted (LUKS): not opened",
    "bitlocker": "encrypted (BitLocker): not opened",
    "logical": "a logical volume that cannot be opened: of an unsupported type, or incomplete",
    "array": "an array that cannot be started",
    "lvm": "an LVM physical volume",
    "md": "a member of an array",
}
_READ = ("ext4", "xfs", "btrfs", "vfat")


def show(
    image: Annotated[str, typer.Argument(metavar="disk:FILE", help=f"A disk image: {escape(FORM)}.")],
    as_json: AsJson = False,
    refresh: Annotated[bool, typer.Option(help="Read it again, even if the result is cached.")] = False,
) -> None:
    """Show what is in a disk image: systems, kernels, boot entries, and the settings that touch PCI.

    Its file systems are read by a guest that is thrown away; the image itself is never written to.
    """
    name = image_name(image)
    if not is_disk(name):
        raise InputError(f"image {image!r}: not a disk image", hint=f"wanted {FORM}")
    records = survey_disk(read_disk_name(name), progress=show_progress, refresh=refresh)
    systems = systems_of(records)
    if as_json:
        plain(json.dumps(_document(name, records, systems), indent=1))
        return
    _print_volumes(records)
    for number, system in enumerate(systems, 1):
        _print_system(number if len(systems) > 1 else None, system)
    if not systems:
        out.print("[yellow]no kernel, no boot entries and no system were found on it[/yellow]")


def _document(name: str, records: DiskRecords, systems: Sequence[System]) -> dict[str, Any]:
    volumes = [
        {key: getattr(volume, key) for key in ("name", "size", "type", "uuid", "label", "root", "error")}
        for volume in records.volumes
    ]
    return {
        "schema": _SCHEMA,
        "image": name,
        "size": records.size,
        "partition_table": records.table,
        "volumes": volumes,
        "systems": [_system_document(system) for system in systems],
    }


def _system_document(system: System) -> dict[str, Any]:
    default = system.default_kernel()
    return {
        "name": system.name,
        "volume": system.volume,
        "os_release": dict(system.os_release),
        "kernels": [{**asdict(kernel), "default": kernel is default} for kernel in system.kernels],
        "initrds": system.initrds,
        "entries": [
            {
                "number": number,
                **{key: value for key, value in asdict(entry).items() if key != "names"},
                "release": kernel.release if (kernel := system.kernel_of(entry)) else None,
                "options": _options(entry.cmdline),
            }
            for number, entry in enumerate(system.entries, 1)
        ],
        "defaults": [
            {"at": at, "line": line, "options": _options(_value(line))} for at, line in _default_lines(system)
        ],
        "settings": [{"line": line, **asdict(statement)} for line, statement in _settings(system)],
    }


def _options(cmdline: str) -> list[dict[str, Any]]:
    return [{"option": name, "why": why, "suspicious": takes} for name, why, takes in option_effects(cmdline)]


def _settings(system: System) -> Iterator[tuple[str, Statement]]:
    for file in system.settings:
        yield from settings_of(f"/{file.path}", file.text)


def _default_lines(system: System) -> Iterator[tuple[str, str]]:
    """Yield the lines from which a boot loader's command lines are made, with their place."""
    for file in system.defaults:
        for number, line in enumerate(file.text.split("\n"), 1):
            text = line.strip()
            if text.startswith("GRUB_CMDLINE_LINUX") or (file.path == "etc/kernel/cmdline" and text):
                yield f"/{file.path}:{number}", text


def _value(line: str) -> str:
    """Return the command line in a shell assignment; a line that is none is one itself."""
    name, separator, value = line.partition("=")
    return value.strip("\"'") if separator and name.startswith("GRUB_") else line


# -- for people --


def _print_volumes(records: DiskRecords) -> None:
    tables = {"gpt": "GPT", "mbr": "MBR", "": "no partition table"}
    table = _table()
    kind = tables.get(records.table, "an unknown partition table")
    out.print(f"[bold]disk[/bold]: {_size(records.size)}, {kind}", highlight=False)
    for volume in records.volumes:
        table.add_row(
            _safe(volume.name), _size(volume.size), _safe(volume.type or "unknown"), Folded(_one_line(_said_of(volume)))
        )
    _show(table)


def _said_of(volume: Volume) -> str:
    if volume.type in _CLOSED:
        kind = f" ({volume.label})" if volume.type == "logical" and volume.label else ""
        return f"{_CLOSED[volume.type]}{kind}"
    if volume.error:
        return f"cannot be read: {volume.error}"
    parts = [f"label {volume.label}" if volume.label else "", f"subvolume {volume.root}" if volume.root else ""]
    if volume.type and volume.type not in _READ:
        parts.append("not looked into")
    return ", ".join(filter(None, parts))


def _print_system(number: int | None, system: System) -> None:
    name = system.name or "a system without os-release"
    where = f" on {system.volume}" if system.volume else ""
    heading = f"system {number}: {name}" if number else name
    out.print(f"[bold]{_safe(heading + where)}[/bold]", highlight=False)
    out.print()
    _print_kernels(system)
    _print_entries(system)
    _print_defaults(system)
    _print_settings(system)


def _print_kernels(system: System) -> None:
    table = _table()
    out.print("[bold]kernels[/bold]")
    default = system.default_kernel()
    for kernel in system.kernels:
        table.add_row(
            _safe(_mark(kernel is default) + (kernel.release or "?")),
            _size(kernel.size),
            Folded(_one_line(_about(kernel))),
        )
    if not system.kernels:
        table.add_row("none", "", "")
    for initrd in system.initrds:
        table.add_row("initrd", "", Folded(_one_line(initrd)))
    _show(table)


def _about(kernel: DiskKernelFile) -> str:
    place = f"{kernel.volume}:/{kernel.path}"
    if kernel.error:
        return f"{place}: {kernel.error}"
    return f"{place}, modules in {':/'.join(kernel.modules)}" if kernel.modules else f"{place}, no modules"


def _print_entries(system: System) -> None:
    if not system.entries:
        return
    out.print("[bold]boot entries[/bold] (--cmdline @image:NUMBER is the line of one)", highlight=False)
    for number, entry in enumerate(system.entries, 1):
        kernel = system.kernel_of(entry)
        release = kernel.release if kernel else f"{entry.kernel}, which does not exist"
        _line(f"{_mark(entry.default)}{number}: {entry.title} [{release}]", entry.source)
        _print_cmdline(entry.cmdline, entry)
    out.print()


def _print_cmdline(cmdline: str, entry: BootEntry | None = None) -> None:
    if entry:
        out.print(f"     {_safe(cmdline)}", highlight=False, soft_wrap=True)
    for name, why, takes in option_effects(cmdline):
        colour = "red" if takes else "green"
        out.print(Folded(f"     {_one_line(name)}: {_one_line(why)}", style=colour, indent=7))


def _print_defaults(system: System) -> None:
    lines = list(_default_lines(system))
    if not lines:
        return
    out.print("[bold]what boot entries are made from[/bold]")
    for at, line in lines:
        _line(line, at)
        _print_cmdline(_value(line))
    out.print()


def _print_settings(system: System) -> None:
    lines = list(_settings(system))
    if not lines:
        return
    out.print("[bold]settings that touch PCI[/bold]")
    for line, statement in lines:
        _line(line, ", ".join(statement.evidence))
        out.print(Folded(f"     {_one_line(statement.text)}", style="red" if statement.suspicious else "", indent=7))
    out.print()


def _line(text: str, at: str) -> None:
    out.print(Folded(f"  {_one_line(text)} ({_one_line(at)})", indent=5))


def _mark(default: bool) -> str:
    return "* " if default else "  "


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _table() -> Table:
    return Table(show_header=False, box=None, padding=(0, 2, 0, 0))


def _show(table: Table) -> None:
    out.print(table, highlight=False)
    out.print()


def _safe(text: str) -> str:
    """Return a text of the disk's so that it controls neither the terminal nor the markup."""
    return escape(_one_line(text))


def _one_line(text: str) -> str:
    return harmless(text).replace("\n", " ")
