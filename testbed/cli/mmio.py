"""`testbed mmio`: a guest's accesses to device registers."""

from __future__ import annotations

import io
import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from testbed.cli.mmio_probe import mmio_probe, mmio_survey
from testbed.cli.terminal import out, plain, show_progress
from testbed.kvmtrace.explanation import explain as explain_lines
from testbed.kvmtrace.line import BINARIES, LINE_LIMIT
from testbed.model.errors import InputError
from testbed.model.pasted import encoding_of, refuse_packed
from testbed.report.kvm_trace import print_explanation, to_json_value

if TYPE_CHECKING:
    from collections.abc import Iterator

mmio_app = typer.Typer(help="A guest's accesses to device registers.", no_args_is_help=True)

#: characters of a line that are looked at in one go: a file without line ends must not be read whole
_LINE_LENGTH = LINE_LIMIT
_PROGRESS_SECONDS = 2.0
#: lines between two looks at the clock
_PROGRESS_LINES = 20_000

mmio_app.command(
    "probe",
    epilog="Examples:\n\n  testbed mmio probe q35 -p devices=virtio-net --bar 4 --offset 0x14 --width 1\n\n  "
    "testbed mmio probe q35 -p devices=virtio-net,cpu=EPYC --bar 4 --offset 0x14 --width 1 --write 0 "
    "--stall smap-erratum\n\nExit codes: 0 if it completed, 1 if it did not.",
)(mmio_probe)
mmio_app.command("survey", epilog="Example: testbed mmio survey q35 -p devices=virtio-net,e1000 --json")(mmio_survey)


@mmio_app.command(
    epilog="Examples:\n\n  testbed mmio explain trace.txt\n\n  trace-cmd report | testbed mmio explain -\n\n"
    "Exit codes: 1 if there is an exit loop, the beginning of one, or a vCPU that KVM gave up on; 0 if there is none "
    "of these; 2 if the file is not such a trace."
)
def explain(
    trace: Annotated[Path, typer.Argument(help="Text of trace-cmd report, or of ftrace's trace; - is stdin.")],
    at_least: Annotated[int, typer.Option(min=2, help="How many exits make a loop.")] = 10,
    rows: Annotated[int, typer.Option(min=0, help="Registers to print; the JSON has all.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Find exit loops without progress in a kvm trace, and vCPUs that ended; count the accesses that completed."""
    name = "stdin" if str(trace) == "-" else str(trace)
    with _opened(trace) as stream:
        size = 0 if str(trace) == "-" else trace.stat().st_size
        explanation = explain_lines(_lines(stream, name, size), name=name, at_least=at_least)
    if as_json:
        plain(json.dumps(to_json_value(explanation, name), indent=1))
    else:
        print_explanation(explanation, name, out, rows=rows, at_least=at_least)
    if not explanation.exits and explanation.is_healthy:
        raise InputError(
            f"{name}: holds {explanation.kvm_events} kvm events, but no kvm_exit: it cannot show an exit loop",
            hint="record with: trace-cmd record -e kvm",
        )
    raise typer.Exit(0 if explanation.is_healthy else 1)


@contextmanager
def _opened(trace: Path) -> Iterator[io.BufferedReader]:
    """Open a trace; raise InputError if it cannot be read."""
    if str(trace) == "-":
        # a stream that was closed before the start is None
        yield cast("io.BufferedReader", sys.stdin.buffer) if sys.stdin else io.BufferedReader(io.BytesIO())
        return
    try:
        with trace.open("rb") as stream:
            yield stream
    except OSError as error:
        raise InputError(f"reading {trace}: {error.strerror}", hint="give it the output of trace-cmd report") from None


def _lines(stream: io.BufferedReader, name: str, size: int) -> Iterator[str]:
    """Return the lines one by one, the excess of a long one left out; tell of progress after two seconds."""
    head = stream.peek(_LINE_LENGTH)
    _check_text(head, name)
    text = io.TextIOWrapper(stream, encoding=encoding_of(head), errors="replace", newline="\n")
    read = number = 0
    shown = time.monotonic()
    while line := text.readline(_LINE_LENGTH):
        read += len(line)
        number += 1
        yield line
        while line and not line.endswith("\n"):
            line = text.readline(_LINE_LENGTH)
            read += len(line)
        if number % _PROGRESS_LINES == 0 and time.monotonic() - shown > _PROGRESS_SECONDS:
            shown = time.monotonic()
            show_progress(f"{name}: {_share(read, size)}, {number:,} lines")


def _check_text(first: bytes, name: str) -> None:
    """Raise InputError if a file begins like one that only holds a trace in another form."""
    refuse_packed(first, source=name, command="testbed mmio explain -")
    for magic, what, command in BINARIES:
        if first.startswith(magic):
            raise InputError(f"{name}: is {what}, expected text", hint=command.format(file=name))


def _share(read: int, size: int) -> str:
    return f"{read / 1e6:.0f} MB read" if not size else f"{read / 1e6:.0f} of {size / 1e6:.0f} MB read"
