"""The command line: the only file that prints."""

from __future__ import annotations

import asyncio
import datetime
import os
import shlex
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from testbed import __version__
from testbed.campaign.case import Case, load_case
from testbed.campaign.run import default_jobs, exit_code, run_cells, summarize, worst_exit
from testbed.host.accel import choose_accel
from testbed.host.qemu import find_qemu
from testbed.image.store import ensure_image, find_image, list_images, remove_image
from testbed.machine.argv import Boot, Channels, qemu_argv
from testbed.machine.launch import check_spec
from testbed.machine.template import load_template
from testbed.model.catalog import CASES, RECIPES, TEMPLATES, unknown
from testbed.model.cmdline import CommandLine
from testbed.model.errors import BedError, InputError, UnsupportedError
from testbed.model.outcome import Cell, RunReport
from testbed.report.json_file import schema, to_json
from testbed.report.terminal import LiveProgress, print_findings, print_report
from testbed.scenarios.scenario import all_scenarios

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

app = typer.Typer(
    name="testbed",
    help="Ask a real Linux guest in a real QEMU how it behaves: hot-plug, AER, SR-IOV, MMIO.",
    epilog="Exit codes: 0 good or as expected, 1 bad or differs, 125 skip, 128 broken, 2 wrong usage or input.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
image_app = typer.Typer(help="Build, list and remove guest images.", no_args_is_help=True)
app.add_typer(image_app, name="image")

#: columns of the output where it goes to no terminal: a file or a CI log should not be folded at 80
_WIDE = 160


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    free = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(stderr=stderr, width=_WIDE if free else None)


out = _console(stderr=False)
err = _console(stderr=True)

Params = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", help="A template parameter, NAME=VALUE.", show_default=False),
]
Cmdline = Annotated[str, typer.Option(help="The guest's kernel command line under test, verbatim.")]
ImageName = Annotated[str, typer.Option("--image", help="Image recipe, see: testbed list images.")]
QemuPath = Annotated[str, typer.Option("--qemu", help="QEMU binary; the one on PATH by default.", show_default=False)]
AccelName = Annotated[str, typer.Option("--accel", help="auto, kvm or tcg.")]


@app.command(name="list", epilog="Example: testbed list scenarios")
def list_(
    kind: Annotated[str, typer.Argument(help="cases, scenarios, machines, images, or all of them.")] = "all",
) -> None:
    """List what there is: cases, scenarios, machine templates with their parameters, image recipes."""
    sections: dict[str, Callable[[], list[tuple[str, str]]]] = {
        "cases": lambda: [(name, load_case(name).title) for name in CASES.names()],
        "scenarios": lambda: [(each.name, each.question) for each in all_scenarios().values()],
        "machines": lambda: [row for name in TEMPLATES.names() for row in _template_rows(name)],
        "images": lambda: [(name, _image_state(name)) for name in RECIPES.names()],
    }
    if kind != "all" and kind not in sections:
        raise unknown("list of", kind, (*sections, "all"))
    for name, rows in sections.items():
        if kind in ("all", name):
            _print_section(name, rows())


@app.command(
    epilog="Examples:\n\n  testbed run pcie-aspm-off\n\n  testbed run disk-unplug --machine q35 -p hotplug=native "
    "--cmdline 'quiet pcie_aspm=off'\n\n  testbed run --all --json result.json"
)
def run(
    names: Annotated[list[str] | None, typer.Argument(metavar="CASE|SCENARIO...", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Run every case.")] = False,
    machine: Annotated[str, typer.Option("--machine", "-m", help="Machine template, for scenarios.")] = "",
    param: Params = None,
    cmdline: Cmdline = "",
    image: ImageName = "",
    qemu: QemuPath = "",
    accel: AccelName = "auto",
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Guests at once; one a core.", show_default=False)
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the outcomes there; - is stdout.")] = None,
    rundir: Annotated[Path, typer.Option(help="Where runs leave their logs.")] = Path("testbed-runs"),
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every finding and its evidence.")] = False,
) -> None:
    """Run documented cases, or scenarios on a machine of your choice, and judge what the guest did."""
    chosen = [*(names or []), *(CASES.names() if every else [])]
    if not chosen:
        raise InputError("run: nothing to run", hint="name a case or a scenario (see: testbed list), or give --all")
    options = _CellOptions(machine=machine, params=param or [], cmdline=cmdline, image=image, qemu=qemu, accel=accel)
    works = [_work(name, options) for name in dict.fromkeys(chosen)]
    if json is not None and str(json) != "-":
        _check_writable(json)
    console = err if str(json) == "-" else out
    folder = _new_rundir(rundir)
    reports = [_run_one(work, folder, jobs or default_jobs(), console, verbose) for work in works]
    console.print(f"[dim]logs: {escape(str(folder))}[/dim]", highlight=False, soft_wrap=True)
    if json is not None:
        _write(to_json(reports), json)
    raise typer.Exit(worst_exit([exit_code(report) for report in reports]))


@app.command(epilog="Example: testbed render q35 -p hotplug=native --cmdline pcie_aspm=off")
def render(
    machine: Annotated[str, typer.Argument(help="Machine template, see: testbed list machines.")],
    param: Params = None,
    cmdline: Cmdline = "",
    image: ImageName = "debian",
    qemu: QemuPath = "",
    accel: AccelName = "auto",
) -> None:
    """Print the machine's description and the QEMU command that starts it, ready to paste.

    In the pasted command the guest's console is the terminal's, ttyS1 and QMP are sockets in the current folder.
    """
    template = load_template(machine)
    given = _parameters(machine, param or [])
    line = CommandLine(cmdline)
    line.check()
    spec = template.spec(given)
    binary = find_qemu(qemu)
    check_spec(spec, binary)
    built = ensure_image(image, progress=_progress)
    boot = Boot(kernel=built.vmlinux or built.bzimage, initramfs=built.initramfs, cmdline=line.with_prefix())
    here = Path()
    argv = qemu_argv(
        spec=spec,
        boot=boot,
        channels=Channels(qmp="qmp.sock", console="console.sock", shell="shell.sock"),
        qemu=binary,
        accel=choose_accel(accel),
        folder=here,
    )
    _plain("\n".join(rendered for rendered in template.render(given).splitlines() if rendered.strip()))
    _plain("")
    for disk in spec.disks:
        if disk.path is None:
            _plain(f"truncate -s {disk.size_mib}M {disk.id}.raw")
    _plain(_pasteable(argv))


@image_app.command(epilog="Example: testbed image build debian")
def build(
    name: Annotated[str, typer.Argument(help="Image recipe, see: testbed list images.")],
    refresh: Annotated[bool, typer.Option(help="Ask the archive for a newer kernel.")] = False,
) -> None:
    """Build an image from its recipe, unless it is there already."""
    built = ensure_image(name, progress=_progress, refresh=refresh)
    start = "PVH (unpacked kernel)" if built.vmlinux else "bzImage (this kernel has no PVH entry)"
    out.print(f"{name}: {built.package}, {built.size / 1e6:.1f} MB initramfs, boots by {start}", highlight=False)
    if built.absent:
        out.print(f"[dim]not in this kernel: {escape(' '.join(built.absent))}[/dim]")
    out.print(f"[dim]{escape(str(built.folder))}[/dim]", highlight=False, soft_wrap=True)


@image_app.command(name="list")
def image_list() -> None:
    """List the images that are built."""
    rows = [(each.name, f"{each.package}, {each.size / 1e6:.1f} MB, {each.id[:12]}") for each in list_images()]
    _print_section("images", rows or [("none", "testbed image build debian")])


@image_app.command()
def remove(name: Annotated[str, typer.Argument(help="Image recipe whose images to remove.")]) -> None:
    """Remove the built images of a recipe; the recipe stays."""
    if name not in RECIPES.names() and not any(each.name == name for each in list_images()):
        raise unknown("image", name, RECIPES.names())
    out.print(f"{name}: {remove_image(name)} removed")


@app.command(name="schema")
def schema_() -> None:
    """Print the JSON Schema of `run --json`."""
    _plain(schema().rstrip())


@app.command()
def version() -> None:
    """Print the version."""
    _plain(f"testbed {__version__}")


@dataclass(frozen=True, kw_only=True)
class _CellOptions:
    """What the command line says of a scenario's cell."""

    machine: str
    params: list[str]
    cmdline: str
    image: str
    qemu: str
    accel: str

    def cell(self, scenario: str) -> Cell:
        """Return the cell of a scenario."""
        machine = self.machine or "q35"
        return Cell(
            scenario=scenario,
            machine=machine,
            parameters=_parameters(machine, self.params),
            cmdline=self.cmdline,
            image=self.image or "debian",
            qemu=self.qemu,
            accel=_accel(self.accel),
        )

    def applied_to(self, case: Case) -> list[Cell]:
        """Return a case's cells with what may be changed of them: image, QEMU and accelerator."""
        fixed = {"--machine": self.machine, "--param": self.params, "--cmdline": self.cmdline}
        for option, value in fixed.items():
            if value:
                hint = f"name a scenario instead: {', '.join(all_scenarios())}"
                raise InputError(f"case {case.name}: {option} is part of its cells", hint=hint)
        changes: dict[str, Any] = {"image": self.image, "qemu": self.qemu, "accel": _accel(self.accel)}
        given = {key: value for key, value in changes.items() if value}
        return [cell.model_copy(update=given) for cell in case.cells]


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A case, or a scenario's one cell, to run."""

    case: str | None
    cells: list[Cell]
    title: str


def _work(name: str, options: _CellOptions) -> _Work:
    if name in CASES.names():
        case = load_case(name)
        return _Work(case=name, cells=options.applied_to(case), title=f"case {name}: {case.title}")
    if name in all_scenarios():
        return _Work(case=None, cells=[options.cell(name)], title=f"scenario {name}: {all_scenarios()[name].question}")
    raise unknown("case or scenario", name, (*CASES.names(), *all_scenarios()))


def _run_one(work: _Work, folder: Path, jobs: int, console: Console, verbose: bool) -> RunReport:
    console.print(f"[bold]{escape(work.title)}[/bold]", highlight=False)
    place = folder / work.case if work.case else folder / work.cells[0].scenario
    with LiveProgress(work.cells, console) as progress:
        outcomes = _until_signalled(work.cells, place, jobs, progress)
    report = summarize(work.case, outcomes)
    if verbose or work.case is None:
        for outcome in outcomes:
            print_findings(outcome, console)
    print_report(report, console)
    _write(to_json([report]), place / "report.json")
    return report


def _until_signalled(cells: Sequence[Cell], place: Path, jobs: int, progress: LiveProgress) -> list[Any]:
    """Run the cells; SIGTERM and SIGHUP end them as Ctrl-C does, with every machine ended."""

    async def ended_by_signals() -> list[Any]:
        task = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGHUP):
            if task is not None:
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await run_cells(cells, rundir=place, jobs=jobs, observer=progress)

    try:
        return asyncio.run(ended_by_signals())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _parameters(machine: str, params: Sequence[str]) -> dict[str, Any]:
    template = load_template(machine)
    given: dict[str, Any] = {}
    for param in params:
        name, separator, text = param.partition("=")
        if not separator:
            raise InputError(f"--param {param!r}: is not NAME=VALUE", hint="for example: -p hotplug=native")
        given[name] = template.parse(name, text)
    template.values(given)
    return given


def _accel(name: str) -> Any:
    choose_accel(name)
    return name


def _new_rundir(base: Path) -> Path:
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = base / f"{stamp}-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"rundir {folder}: {error.strerror}", hint="name another folder with --rundir") from None
    return folder.resolve()


def _write(text: str, path: Path) -> None:
    if str(path) == "-":
        _plain(text.rstrip())
        return
    try:
        path.write_text(text)
    except OSError as error:
        raise InputError(f"writing {path}: {error.strerror}") from None


def _check_writable(path: Path) -> None:
    """Raise InputError before anything runs if `path` could not be written after it."""
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise InputError(f"writing {path}: it cannot be written", hint="name a file in a folder that exists")


def _pasteable(argv: Sequence[str]) -> str:
    """Return the command with sockets that QEMU offers, and the console on the terminal."""
    words = []
    for word in argv:
        if word.startswith("socket,id=console"):
            words.append("stdio,id=console,signal=off")
        elif word.startswith("socket,id="):
            words.append(f"{word},server=on,wait=off")
        elif word != "-S":
            words.append(word)
    lines = (f" \\\n  {shlex.quote(word)}" if word.startswith("-") else f" {shlex.quote(word)}" for word in words)
    return "".join(lines).strip()


def _template_rows(name: str) -> list[tuple[str, str]]:
    template = load_template(name)
    rows = [(name, template.description)]
    for key, parameter in template.parameters.items():
        choices = f" ({'|'.join(parameter.choices)})" if parameter.choices else ""
        rows.append((f"  {key}", f"{parameter.doc}{choices}; default: {parameter.default}"))
    return rows


def _image_state(name: str) -> str:
    built = find_image(name)
    return f"{built.package}, built" if built else "not built yet"


def _print_section(title: str, rows: Sequence[tuple[str, str]]) -> None:
    table = Table(title=title, title_justify="left", show_header=False, show_edge=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(escape(name), escape(text))
    out.print(table, highlight=False)
    out.print()


def _plain(text: str) -> None:
    sys.stdout.write(text + "\n")


def _progress(message: str) -> None:
    err.print(f"[dim]{escape(message)}[/dim]", highlight=False)


def main() -> None:
    """Run the command line; an uncaught exception ends with 129, never with 1, which would mean a verdict."""
    try:
        app()
    except BedError as error:
        err.print(f"[red]error[/red]: {escape(error.message)}", highlight=False, soft_wrap=True)
        if error.hint:
            err.print(f"[yellow]hint[/yellow]: {escape(error.hint)}", highlight=False, soft_wrap=True)
        sys.exit(_code(error))
    except KeyboardInterrupt:
        err.print("interrupted: every machine is ended")
        sys.exit(130)
    except Exception:
        traceback.print_exc()
        sys.exit(129)


def _code(error: BedError) -> int:
    if isinstance(error, InputError):
        return 2
    return 125 if isinstance(error, UnsupportedError) else 128
