"""Offers: what the test bed has to run, each with a line that says what it is.

Those of the shipped files are remembered as long as no file of the test bed changes: to find them, each scenario is
imported and each case read. A user's own files are read each time, since they may import anything.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from testbed.host.kept_answer import kept_answer
from testbed.model.catalog import CASES, SCENARIOS, STEPS, TEMPLATES, shipped_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from testbed.model.catalog import Shelf
    from testbed.model.parameter import Parameter

#: changes when something else is remembered of the same files
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A case, a scenario or a machine template."""

    name: str
    text: str
    choices: Mapping[str, str]  #: its parameters or options, with a line on each


def case_offers() -> list[Offer]:
    """Return the cases by name; raise InputError for a file that is wrong."""
    return _offers(_case, CASES)


def scenario_offers() -> list[Offer]:
    """Return the scenarios by name; raise InputError for a file that is wrong."""
    return _offers(_scenarios, SCENARIOS, STEPS)


def machine_offers() -> list[Offer]:
    """Return the machine templates by name; raise InputError for a file that is wrong."""
    return _offers(_template, TEMPLATES)


def _offers(read: Callable[[Path], list[Offer]], *shelves: Shelf) -> list[Offer]:
    """Return what the files of shelves offer, by name; what a user's own offer goes before the shipped."""
    own: list[Offer] = []
    shipped: list[Offer] = []
    for shelf in shelves:
        kept = _shipped(shelf, read)
        for path in shelf.paths().values():
            if path.parent == shelf.shipped:
                shipped += kept[path.name]
            else:
                own += read(path)
    found = {offer.name: offer for offer in (*shipped, *own)}
    return [found[name] for name in sorted(found)]


def _shipped(shelf: Shelf, read: Callable[[Path], list[Offer]]) -> dict[str, list[Offer]]:
    """Return what each shipped file of a shelf offers."""
    ask = partial(_read_shipped, shelf, read)
    kept = kept_answer("offers", str(shelf.shipped), _state(), shelf.suffix, ask)
    return {name: [Offer(**fields) for fields in offers] for name, offers in kept.items()}


def _read_shipped(shelf: Shelf, read: Callable[[Path], list[Offer]]) -> dict[str, list[dict[str, object]]]:
    paths = sorted(shelf.shipped.glob(f"*{shelf.suffix}"))
    return {path.name: [asdict(offer) for offer in read(path)] for path in paths}


@cache
def _state() -> str:
    """Return what differs once a file of the test bed does: the places, sizes and times of them all."""
    digest = hashlib.sha256(f"{_FORMAT} {sys.version}".encode())
    for folder in (CASES.shipped.parent, TEMPLATES.shipped, shipped_folder("guest-images")):
        for entry in _files(str(folder)):
            seen = entry.stat()
            digest.update(os.fsencode(f"\0{entry.path} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}"))
    return digest.hexdigest()


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _files(entry.path)
        elif entry.is_file():
            yield entry


# each of these brings what reads such a file, only where it is read


def _case(path: Path) -> list[Offer]:
    from testbed.campaign.case import read_case  # noqa: PLC0415

    name = path.name.removesuffix(CASES.suffix)
    return [Offer(name=name, text=read_case(path, name).title, choices={})]


def _scenarios(path: Path) -> list[Offer]:
    from testbed.scenarios.scenario import scenarios_in  # noqa: PLC0415

    return [Offer(name=each.name, text=each.question, choices=_said_of(each.options)) for each in scenarios_in(path)]


def _template(path: Path) -> list[Offer]:
    from testbed.machine.template import read_template  # noqa: PLC0415

    name = path.name.removesuffix(TEMPLATES.suffix)
    template = read_template(path, name)
    return [Offer(name=name, text=template.description, choices=_said_of(template.parameters))]


def _said_of(parameters: Mapping[str, Parameter]) -> dict[str, str]:
    return {name: _said(parameter) for name, parameter in parameters.items()}


def _said(parameter: Parameter) -> str:
    """Return what a parameter is for, its choices and its default; an empty one as a shell writes it."""
    choices = f" ({'|'.join(parameter.choices)})" if parameter.choices else ""
    default = "''" if parameter.default == "" else parameter.default
    return f"{parameter.doc}{choices}; default: {default}"
