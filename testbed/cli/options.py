"""Options that several commands share, in groups, each with the value it stands for.

A command takes a group as one parameter, and `spliced` puts the group's options in its place:

    @spliced
    def boot(machine: MachineName, setup: SetupOptions, rundir: Rundir = RUNS) -> None:
"""

from __future__ import annotations

import enum
import functools
import inspect
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast, get_type_hints

import typer

from testbed.cli.terminal import check_writable, show_progress, write_text
from testbed.model.catalog import add_path, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from testbed.model.outcome import Outcome
    from testbed.model.setup import Setup

Command = TypeVar("Command", bound="Callable[..., None]")
Time = Literal["auto", "real", "warped"]


class Keep(enum.StrEnum):
    """Which verdicts keep a machine."""

    BAD = "bad"
    BROKEN = "broken"
    ALL = "all"


#: where runs leave their logs if nothing else is said
RUNS = Path("testbed-runs")

MachineName = Annotated[
    str, typer.Argument(help="Machine template, 'q35\\[hotplug=native]' or pc-q35-6.0; see: testbed list machines -v.")
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", help="A template parameter, NAME=VALUE.", show_default=False),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--scenario-option",
        "-s",
        help="An option of the scenario, NAME=VALUE (see: testbed list -v).",
        show_default=False,
    ),
]
Cmdline = Annotated[
    str,
    typer.Option(help="The guest's kernel command line under test, verbatim; @image: the one in a disk's boot entry."),
]
ImageName = Annotated[
    str,
    typer.Option(
        "--image",
        help="Image recipe (see: testbed list images), or a kernel: host, path:KERNEL[,MODULES], deb:FILE, rpm:FILE, "
        "apt:PACKAGE, or a disk image: disk:FILE; debian by default. For a case, it replaces the "
        "kernel of each cell's recipe.",
        show_default=False,
    ),
]
QemuName = Annotated[
    str,
    typer.Option(
        "--qemu",
        help="QEMU: a path, the name of a fetched one (see: testbed qemu list), or any, the first that has what the "
        "machine needs; the one on PATH by default.",
        show_default=False,
    ),
]
PathName = Annotated[
    list[Path] | None,
    typer.Option(
        "--path",
        help="A folder with your own machine-templates/, guest-images/, scenarios/ or cases/; also TESTBED_PATH.",
        callback=lambda folders: [add_path(folder) for folder in folders or []],
        is_eager=True,
        show_default=False,
    ),
]
AccelName = Annotated[str, typer.Option("--accel", help="auto (the default), kvm or tcg.", show_default=False)]
First = Annotated[
    str,
    typer.Option(
        "--first",
        help="A command that the guest runs first; its effects are part of the starting state, and of what is saved.",
        show_default=False,
    ),
]
Whole = Annotated[
    bool,
    typer.Option(
        "--whole", help="Run the disk image's own user space; the question waits until systemd reports `running`."
    ),
]
WholeWait = Annotated[
    int | None,
    typer.Option(
        "--whole-wait",
        min=0,
        max=99999,
        metavar="SECONDS",
        help="Like --whole, for an init other than systemd: wait until the guest has been up this many seconds.",
        show_default=False,
    ),
]
Via = Annotated[
    str,
    typer.Option(
        "--via",
        help="How to talk to the guest: agent (the default), or console, a shell on the console of a disk that its own "
        "loader boots; needs --login.",
        show_default=False,
    ),
]
LoginFile = Annotated[
    Path | None,
    typer.Option(
        "--login",
        help="A file that only you can read: the console's user name on its first line, the password on its second.",
        metavar="FILE",
        show_default=False,
    ),
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Guests at once; by default one per core.", show_default=False)
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Boot every guest; neither use nor keep saved states.")]
TimeName = Annotated[
    str, typer.Option("--time", help="How a guest's idle time passes under TCG: auto, real or warped.")
]
Rundir = Annotated[Path, typer.Option(help="Where runs leave their logs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as JSON, for programs.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print the details too.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the result to this file as JSON; - is stdout.", show_default=False)
]
JunitFile = Annotated[
    Path | None, typer.Option("--junit", help="Write JUnit XML to this file, for a CI system.", show_default=False)
]
KtapFile = Annotated[
    Path | None, typer.Option("--ktap", help="Write KTAP to this file, for kernel CI.", show_default=False)
]
HtmlFile = Annotated[
    Path | None,
    typer.Option("--html", help="Write an HTML report to this file: every cell with its evidence.", show_default=False),
]
TraceFile = Annotated[
    Path | None, typer.Option("--trace", help="Write the timeline to this file, for Perfetto.", show_default=False)
]


@dataclass(frozen=True, kw_only=True)
class SetupOptions:
    """What a guest depends on beside its machine's name."""

    param: Params = None
    cmdline: Cmdline = ""
    first: First = ""
    image: ImageName = ""
    qemu: QemuName = ""
    accel: AccelName = ""
    whole: Whole = False
    whole_wait: WholeWait = None
    via: Via = ""
    login: LoginFile = None
    path: PathName = None

    def setup(self, machine: str, *, by_loader: bool = False) -> Setup:
        """Return the setup, of a guest that a disk's own loader boots `by_loader`; raise InputError if it is wrong."""
        # like all that reads an option's value: other commands have the options alone
        from testbed.campaign.setups import read_one_setup  # noqa: PLC0415

        return read_one_setup(
            machine,
            self.param or [],
            by_loader=by_loader,
            progress=show_progress,
            cmdline=self.cmdline,
            first=self.first,
            image=self.image,
            qemu=known_qemu(self.qemu),
            accel=known_accel(self.accel),
            whole=when_whole(self.whole, self.whole_wait),
            via=known_via(self.via),
            login=str(self.login or ""),
        )


@dataclass(frozen=True, kw_only=True)
class PaceOptions:
    """How cells begin, and how their guests' time passes."""

    fresh: Fresh = False
    time: TimeName = "auto"

    def pace(self) -> dict[str, Any]:
        """Return the fields of a cell."""
        return {"start": "fresh" if self.fresh else "auto", "time": known_time(self.time)}


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What a command writes beside its table."""

    json: JsonFile = None
    junit: JunitFile = None
    ktap: KtapFile = None
    html: HtmlFile = None
    trace: TraceFile = None

    @property
    def json_on_stdout(self) -> bool:
        """Return whether stdout is for a program."""
        return self.json == Path("-")

    @property
    def for_cells(self) -> bool:
        """Return whether there is to be a report of every cell beside the JSON."""
        return any((self.junit, self.ktap, self.html, self.trace))

    def check(self) -> None:
        """Raise InputError, before anything runs, for a file that could not be written after it."""
        for path in (self.json, self.junit, self.ktap, self.html, self.trace):
            if path is not None and path != Path("-"):
                check_writable(path)

    def write(self, outcomes: Sequence[Outcome], *, json: str | None = None) -> None:
        """Write what is wanted; `-` is stdout. `json` is the command's own JSON, None if it was written already."""
        if self.json is not None and json is not None:
            write_text(json, self.json)
        for path, report in self._reports():
            write_text(report(outcomes), path)

    def _reports(self) -> list[tuple[Path, Callable[[Sequence[Outcome]], str]]]:
        # each brings what writes it: a parser of XML, a page's template, the timeline
        wanted = (
            (self.junit, "junit_file", "to_junit"),
            (self.ktap, "ktap_file", "to_ktap"),
            (self.html, "html_page", "html_page"),
            (self.trace, "trace_file", "to_trace"),
        )
        return [
            (path, getattr(import_module(f"testbed.report.{module}"), function))
            for path, module, function in wanted
            if path is not None
        ]


def spliced(command: Command) -> Command:
    """Return a command whose groups of options are options of its own; it is called with the groups made of them."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters += _options(groups[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def called(**values: Any) -> None:
        made = {name: _made(group, values) for name, group in groups.items()}
        command(**values, **made)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    del called.__wrapped__
    return cast("Command", called)


def _made(group: Any, values: dict[str, Any]) -> Any:
    """Take the options of a group out of `values`, and return the group made of them."""
    return group(**{each.name: values.pop(each.name) for each in fields(group)})


def _options(group: Any) -> list[inspect.Parameter]:
    """Return the options of a group as parameters of a command."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name])
        for each in fields(group)
    ]


def known_qemu(name: str) -> str:
    """Return a QEMU's name; raise InputError if this host has none of that name, or it cannot be used."""
    from testbed.host.qemu import find_qemu  # noqa: PLC0415

    if name:
        find_qemu(name)
    return name


def when_whole(whole: bool, wait: int | None) -> str:
    """Return the field of a setup that says whether the disk's user space runs, and from when on it counts as up."""
    if wait is not None:
        return str(wait)
    return "running" if whole else ""


def known_accel(name: str) -> str:
    """Return an accelerator's name; raise InputError if there is none of that name."""
    from testbed.host.accel import CHOICES  # noqa: PLC0415

    if name and name not in CHOICES:
        raise unknown("accelerator", name, CHOICES)
    return name


def known_via(name: str) -> str:
    """Return who answers in the guest; raise InputError for nobody known."""
    if name not in ("", "agent", "console"):
        raise unknown("--via", name, ("agent", "console"))
    return name


def known_time(name: str) -> Time:
    """Return how time passes; raise InputError for no such way."""
    if name not in ("auto", "real", "warped"):
        raise unknown("--time", name, ("auto", "real", "warped"))
    return cast("Time", name)
