"""The other boot loaders' files: Boot Loader Specification entries (systemd-boot, blscfg) and extlinux.conf."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from testbed.image.disk.boot_entry import MAX_ENTRIES, MAX_LINES, BootEntry, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def read_bls(text: str, *, name: str, source: str) -> BootEntry | None:
    """Return the entry of a loader/entries/NAME.conf; None if it starts no kernel."""
    said: dict[str, list[str]] = {}
    for line in text.split("\n")[:MAX_LINES]:
        key, _, value = line.strip().partition(" ")
        if key and not key.startswith("#"):
            said.setdefault(key, []).append(value.strip())
    if "linux" not in said:
        return None
    stem = name.removesuffix(".conf")
    return BootEntry(
        title=(said.get("title") or [stem])[0],
        kernel=said["linux"][0],
        cmdline=one_line(said.get("options", [])),
        initrds=tuple(said.get("initrd", [])),
        source=f"{source}:1",
        # without the counter of boot attempts: NAME+3-1.conf
        names=(stem, re.sub(r"\+[0-9]{1,4}(-[0-9]{1,4})?$", "", stem), f"{stem}.conf"),
    )


def newest_first(entries: Iterable[BootEntry]) -> list[BootEntry]:
    """Return entries as boot loaders show them: the highest version first."""
    return sorted(entries, key=lambda entry: _version(entry.names[0]), reverse=True)


def _version(name: str) -> list[tuple[int, int, str]]:
    """Return what a name is sorted by: numbers as numbers, a rescue entry last."""
    parts = [
        (1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.findall(r"[0-9]{1,18}|[^0-9]+", name)
    ]
    return [(0 if "rescue" in name else 1, 0, ""), *parts]


def mark_loader_default(entries: Sequence[BootEntry], loader_conf: str) -> list[BootEntry]:
    """Return entries with the one marked that a loader.conf chooses, or else the first."""
    words = (line.split() for line in loader_conf.split("\n")[:MAX_LINES])
    pattern = next((each[1] for each in words if len(each) > 1 and each[0] == "default"), "")
    chosen = next((entry for entry in entries if any(fnmatchcase(name, pattern) for name in entry.names)), None)
    default = chosen or next(iter(entries), None)
    return [replace(entry, default=entry is default) for entry in entries]


def read_extlinux(text: str, *, source: str) -> list[BootEntry]:
    """Return the menu of an extlinux.conf or syslinux.cfg, the default entry marked."""
    entries: list[BootEntry] = []
    label: dict[str, str] = {}
    default = ""
    for number, line in enumerate(text.split("\n")[:MAX_LINES], 1):
        key, _, value = line.strip().partition(" ")
        word, value = key.lower(), value.strip()
        if word == "label" or (word == "menu" and value.lower() == "default"):
            if word == "menu":
                default = label.get("name", default)
                continue
            _finish(label, entries)
            label = {"name": value, "title": value, "source": f"{source}:{number}"}
        elif word in ("default", "ontimeout") and not default:
            default = value
        elif word == "menu" and value.lower().startswith("label "):
            label["title"] = value[len("label ") :].strip().replace("^", "")
        elif word in ("linux", "kernel", "append", "initrd"):
            label["linux" if word == "kernel" else word] = value
    _finish(label, entries)
    chosen = next((entry for entry in entries if default in entry.names), next(iter(entries), None))
    return [replace(entry, default=entry is chosen) for entry in entries]


def _finish(label: dict[str, str], entries: list[BootEntry]) -> None:
    """Add the entry of a label that is complete and starts a kernel."""
    if "linux" not in label or "name" not in label or len(entries) >= MAX_ENTRIES:
        return
    words = label.get("append", "").split()
    initrds = [word.removeprefix("initrd=") for word in words if word.startswith("initrd=")]
    entries.append(
        BootEntry(
            title=label["title"],
            kernel=label["linux"],
            cmdline=one_line([word for word in words if not word.startswith("initrd=")]),
            initrds=tuple(filter(None, [*label.get("initrd", "").split(","), *initrds])),
            source=label["source"],
            names=(label["name"],),
        )
    )
