"""The command line: one file a command, and the only room that prints."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Annotated, NoReturn

import typer
from rich.markup import escape

from testbed import __version__
from testbed.cli.bisect import bisect
from testbed.cli.boot import boot
from testbed.cli.bundle import bundle
from testbed.cli.cache import cache_app
from testbed.cli.clean import clean
from testbed.cli.compare import compare
from testbed.cli.doctor import doctor
from testbed.cli.explain import explain
from testbed.cli.image import image_app
from testbed.cli.inject import inject
from testbed.cli.listing import list_
from testbed.cli.matrix import matrix
from testbed.cli.mmio import mmio_app
from testbed.cli.pci import pci_app
from testbed.cli.qemu import qemu_app
from testbed.cli.render import render
from testbed.cli.report import report
from testbed.cli.run import run
from testbed.cli.terminal import err, plain
from testbed.host.cache import in_cache
from testbed.model.errors import BedError, InputError, UnsupportedError
from testbed.model.printable import harmless
from testbed.report.json_file import schema

app = typer.Typer(
    name="testbed",
    help="Ask a real Linux guest in a real QEMU how it behaves: hot-plug, AER, SR-IOV, MMIO.",
    epilog="Exit codes: 0 good or as expected, 1 bad or differs, 125 skip, 128 broken, 2 wrong usage or input.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(image_app, name="image")
app.add_typer(qemu_app, name="qemu")
app.add_typer(cache_app, name="cache")
app.add_typer(mmio_app, name="mmio")
app.add_typer(pci_app, name="pci")
app.command(name="list", epilog="Example: testbed list scenarios")(list_)
app.command(
    epilog="Examples:\n\n  testbed run pcie-aspm-off\n\n  testbed run disk-unplug --machine q35 -p hotplug=native "
    "--cmdline 'quiet pcie_aspm=off'\n\n  testbed run --all --json result.json"
)(run)
app.command(
    epilog="Examples:\n\n  testbed bisect disk-unplug -p hotplug=native --cmdline 'quiet pcie_aspm=off nomodeset'\n\n  "
    "testbed bisect disk-unplug --over machine -m pc-q35-6.1 -m pc-q35-6.0 --cmdline pcie_aspm=off"
)(bisect)
app.command(
    epilog="Examples:\n\n  testbed boot q35 -p hotplug=native\n\n  printf 'unplug dev1\\nlog 5\\n' | testbed boot q35"
)(boot)
app.command(
    epilog="Examples:\n\n  testbed compare disk-unplug -m 'q35\\[hotplug=native]' -m i440fx --cmdline pcie_aspm=off"
    "\n\n  testbed compare disk-unplug -m 'pc-q35-*' --cmdline pcie_aspm=off"
)(compare)
app.command(
    epilog="Examples:\n\n  testbed matrix matrix.yaml --json result.json\n\n  testbed matrix disk-unplug disk-plug "
    "-m q35 -m i440fx --cmdline '' --cmdline pcie_aspm=off"
)(matrix)
app.command(
    epilog="Examples:\n\n  testbed report testbed-runs/20261121-131746-25083 --html report.html\n\n  "
    "testbed report testbed-runs --junit junit.xml --trace trace.json"
)(report)
app.command(epilog="Example: testbed bundle testbed-runs/20261121-131746-25083/disk-unplug/01-disk-unplug-q35")(bundle)
app.command(
    epilog="Examples:\n\n  testbed inject q35 -p devices=e1000e --device dev1 --error COMP_ABORT\n\n  "
    "testbed inject q35 --device rp1 --all --route qemu"
)(inject)
app.command(epilog="Example: testbed render q35 -p hotplug=native --cmdline pcie_aspm=off")(render)

app.command(
    epilog="Examples:\n\n  testbed explain dmesg.txt cmdline.txt interrupts.txt lspci.txt\n\n  "
    "journalctl -k -b | testbed explain - /proc/cmdline /proc/interrupts"
)(explain)
app.command(epilog="Example: testbed doctor --json")(doctor)
app.command(epilog="Example: testbed clean --runs --dry-run")(clean)


@app.command(name="schema")
def schema_(
    command: Annotated[str, typer.Argument(metavar="run|compare|bisect|matrix", help="Whose --json.")] = "run",
) -> None:
    """Print the JSON Schema of what `run`, `compare`, `bisect` or `matrix` writes with --json."""
    plain(schema(command).rstrip())


@app.command()
def version() -> None:
    """Print the version."""
    plain(f"testbed {__version__}")


#: what keeps a place from being written that another one would not
_DENIED = (errno.EROFS, errno.EACCES, errno.EPERM)
#: what a host may run out of, or deny: no fault of the test bed's
_HOST_FAULTS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
    *_DENIED,
)


def main() -> None:
    """Run the command line; an uncaught exception ends with 129, never with 1, which would mean a verdict."""
    try:
        _main()
    finally:
        _flush()


def _flush() -> None:
    """Write what is left; where a closed terminal takes no more, drop it, or Python would end with 120 for that."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _main() -> None:
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
    except SystemExit as end:
        # typer's own usage errors
        sys.exit(_for_git(end.code) if isinstance(end.code, int) else end.code)
    except OSError as error:
        if error.errno not in _HOST_FAULTS:
            _print_traceback()
        denied = error.errno in _DENIED and error.filename is not None and in_cache(str(error.filename))
        where = f"{error.filename}: " if error.filename else ""
        err.print(f"[red]error[/red]: {escape(f'{where}{error.strerror}')}", highlight=False, soft_wrap=True)
        hint = "name a cache that can be written: TESTBED_CACHE=FOLDER" if denied else "see: testbed doctor"
        err.print(f"[yellow]hint[/yellow]: {hint}", highlight=False)
        sys.exit(_for_git(2) if denied else 128)
    except Exception:
        _print_traceback()


def _print_traceback() -> NoReturn:
    """Print what went wrong in the test bed itself; the message may be a guest's."""
    sys.stderr.write(harmless(traceback.format_exc()))
    sys.exit(129)


def _code(error: BedError) -> int:
    if isinstance(error, InputError):
        return _for_git(2)
    return 125 if isinstance(error, UnsupportedError) else 128


def _for_git(code: int) -> int:
    """Return 128 for wrong usage or input under `git bisect run`, which takes a 2 for a bad commit."""
    return 128 if code == 2 and "--git-bisect" in sys.argv else code
