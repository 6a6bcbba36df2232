"""`testbed pci`: what the configuration spaces of PCI functions say."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from testbed.cli.options import RUNS, AsJson, Rundir, SetupOptions, spliced
from testbed.cli.terminal import out, plain
from testbed.lint.dump import parse_dump
from testbed.lint.function import repeated
from testbed.lint.linter import RULES, lint_functions
from testbed.lint.report import joined
from testbed.lint.sysfs import parse_config
from testbed.model.config_space import SIZES
from testbed.model.errors import InputError
from testbed.model.pasted import decode, encoding_of, is_binary, refuse_packed
from testbed.model.pci import Bdf
from testbed.model.printable import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testbed.lint.function import Function
    from testbed.lint.report import Diagnostic, NotChecked, Report, Skipped

pci_app = typer.Typer(help="Inspect the configuration space of PCI functions.", no_args_is_help=True)

_SCHEMA = 1
_STDIN = "-"
#: a thousand functions with all their words are 20 MB
_LARGEST = 32 << 20
_SHOWN = 3


@pci_app.command(
    epilog="Examples:\n\n  lspci -vvxxxx | testbed pci lint -          (as root: others see 64 bytes)\n\n"
    "  testbed pci lint /sys/bus/pci/devices/*/config\n\n"
    "  testbed pci lint --machine q35 -p devices=e1000e,nvme"
)
@spliced
def lint(
    setup: SetupOptions,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...",
            help="Text of lspci -x, -xxx or -xxxx (best with -vv), a hex dump, or sysfs' config; - is stdin.",
        ),
    ] = None,
    machine: Annotated[
        str, typer.Option("--machine", "-m", help="Instead of files: boot this machine and lint it.")
    ] = "",
    rundir: Rundir = RUNS,
    notes: Annotated[bool, typer.Option(help="Show notes as well: facts, not errors.")] = True,
    as_json: AsJson = False,
) -> None:
    """Check dumps of configuration space against the PCI specifications.

    A text is taken for one machine, all binary files together for one. Exits with 0 if no rule is broken, else with 1;
    notes are facts, no errors. What the files do not show is listed as not checked, what is damaged as skipped.
    """
    if bool(files) == bool(machine):
        raise InputError("pci lint: give it files, or --machine", hint="testbed pci lint dump.txt")
    if files:
        machines, skipped = _machines(files)
        report = joined((lint_functions(functions) for functions in machines), skipped=skipped)
    else:
        # brings all that boots a guest
        from testbed.cli.pci_machine import functions_of  # noqa: PLC0415

        report = lint_functions(functions_of(setup.setup(machine), rundir))
    if as_json:
        plain(json.dumps(_to_json(report), indent=1))
    else:
        _print(report, notes=notes)
    raise typer.Exit(1 if report.errors else 0)


def _machines(files: list[Path]) -> tuple[list[tuple[Function, ...]], list[Skipped]]:
    """Read every file; the binary ones are functions of one machine."""
    machines: list[tuple[Function, ...]] = []
    skipped: list[Skipped] = []
    singles = []
    for path in files:
        data = _read(path)
        source = harmless("stdin" if str(path) == _STDIN else str(path))
        if _is_binary(data):
            singles.append(parse_config(data, source=source, bdf=_address(path), resource=_resource(path)))
        else:
            dump = parse_dump(decode(data), source=source)
            machines += dump.machines
            skipped += dump.skipped
    twice = repeated(singles)
    if twice:
        raise InputError(f"{twice} is given twice", hint="lint one machine at a time")
    return [*machines, tuple(singles)] if singles else machines, skipped


def _read(path: Path) -> bytes:
    try:
        if str(path) == _STDIN:
            # a stream that was closed before the start is None
            data = sys.stdin.buffer.read(_LARGEST + 1) if sys.stdin else b""
        else:
            with path.open("rb") as file:
                data = file.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"reading {path}: {error.strerror}") from None
    if not data:
        raise InputError(f"reading {path}: the file is empty", hint="lspci -vvxxxx > dump.txt")
    refuse_packed(data, source=str(path), command="testbed pci lint -")
    if len(data) > _LARGEST:
        raise InputError(f"reading {path}: more than {_LARGEST >> 20} MiB is not a dump of one machine")
    return data


def _is_binary(data: bytes) -> bool:
    """Return whether these are bytes and not text: of a `config`'s size with what no text has, or not text at all."""
    if encoding_of(data).startswith("utf-16"):
        return False
    if len(data) not in SIZES:
        return is_binary(data)
    try:
        return "\0" in data.decode()
    except UnicodeDecodeError:
        return True


def _address(path: Path) -> Bdf | None:
    """Return whose `config` it is, by its folder's name as sysfs has it."""
    try:
        return Bdf.parse(path.absolute().parent.name)
    except ValueError:
        return None


def _resource(path: Path) -> str:
    try:
        return (path.parent / "resource").read_text(encoding="ascii") if path.name == "config" else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _print(report: Report, *, notes: bool) -> None:
    for each in report.errors:
        _say(f"{_head(each, 'red')} {escape(each.message)}")
        _say(f"  [dim]required:[/dim] {escape(each.satisfy)}")
        for mend in each.mend:
            _say(f"  [dim]fix:[/dim]      {escape(mend)}")
        _say(f"  [dim]source:[/dim]   {escape(each.source)}")
    for same in _grouped(report.notes if notes else ()):
        others = [f"{each.function} ({each.where})" for each in same[1:]]
        too = f"; also {_some(others)}" if others else ""
        _say(f"{_head(same[0], 'cyan')} {escape(same[0].message + too)}")
    for line in (*_missing(report.not_checked), *_left_out(report.skipped)):
        _say(line)
    _say(_summary(report))


def _head(found: Diagnostic, colour: str) -> str:
    mark = escape(f"{found.severity}[{found.rule}]")
    return f"{escape(found.where)}: {found.function}: [{colour}]{mark}[/{colour}]:"


def _grouped(notes: Iterable[Diagnostic]) -> list[list[Diagnostic]]:
    """Return the notes, those that say the same of several functions together."""
    groups: dict[tuple[str, str], list[Diagnostic]] = defaultdict(list)
    for each in notes:
        groups[each.rule, each.message].append(each)
    return list(groups.values())


def _left_out(skipped: tuple[Skipped, ...]) -> list[str]:
    """Return a line for each damaged function, and one for all that have no bytes."""
    bare = [f"{each.function} ({each.where})" for each in skipped if not each.damaged]
    lines = [f"{each.where}: {each.function}: {each.reason}" for each in skipped if each.damaged]
    lines += [f"no bytes of {', '.join(bare)}"] if bare else []
    return [f"[yellow]skipped[/yellow]: {escape(line)}" for line in lines]


def _missing(not_checked: tuple[NotChecked, ...]) -> list[str]:
    """Return a line for each reason why rules were not checked, with the rules and the functions."""
    functions: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    rules: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for each in not_checked:
        functions[each.reason, each.needs][f"{each.function} ({each.where})"] = None
        rules[each.reason, each.needs][each.rule] = None
    return [
        line
        for reason, needs in functions
        for line in (
            f"[yellow]not checked[/yellow]: {', '.join(rules[reason, needs])}",
            f"  [dim]where:[/dim]   {escape(_some(list(functions[reason, needs])))}",
            f"  [dim]why:[/dim]     {escape(reason)}",
            f"  [dim]needs:[/dim]   {escape(needs)}",
        )
    ]


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _summary(report: Report) -> str:
    counts = (
        _count(report.functions, "function"),
        _count(len(report.errors), "error"),
        _count(len(report.notes), "note"),
    )
    unchecked = len({each.rule for each in report.not_checked})
    rest = f"; {_count(unchecked, 'rule')} of {len(RULES)} not checked on every function" if unchecked else ""
    return ", ".join(counts) + rest


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _say(line: str) -> None:
    out.print(line, highlight=False, soft_wrap=True)


def _to_json(report: Report) -> dict[str, object]:
    return {
        "schema": _SCHEMA,
        "functions": report.functions,
        "errors": [asdict(each) for each in report.errors],
        "notes": [asdict(each) for each in report.notes],
        "not_checked": [asdict(each) for each in report.not_checked],
        "skipped": [asdict(each) for each in report.skipped],
    }
