"""The command line: one file a command, and the only room that prints."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from typing import NoReturn

from testbed.cli.commands import app
from testbed.cli.terminations import terminations
from testbed.host.cache import in_cache
from testbed.model.errors import BedError, InputError, UnsupportedError
from testbed.model.printable import harmless

#: what keeps a place from being written that another one would not
_DENIED = (errno.EROFS, errno.EACCES, errno.EPERM)
#: what a host may run out of, or deny: no fault of the test bed's
_HOST_FAULTS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
    *_DENIED,
)


def main() -> None:
    """Run the command line; an uncaught exception ends with 129, never with 1, which would mean a verdict."""
    for number in terminations():
        # or what runs outside asyncio, such as the build of an image, would leave its files
        signal.signal(number, signal.default_int_handler)
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
        _tell(error.message, error.hint)
        sys.exit(_code(error))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: all machines ended\n")
        sys.exit(130)
    except SystemExit as end:
        # typer's own usage errors
        sys.exit(_for_git(end.code) if isinstance(end.code, int) else end.code)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            # the test bed's own names are short: this one was given
            _tell(f"{error.filename}: {error.strerror}", None)
            sys.exit(_for_git(2))
        if error.errno not in _HOST_FAULTS:
            _print_traceback()
        denied = error.errno in _DENIED and error.filename is not None and in_cache(str(error.filename))
        where = f"{error.filename}: " if error.filename else ""
        hint = "choose a writable cache: TESTBED_CACHE=FOLDER" if denied else "see: testbed doctor"
        _tell(f"{where}{error.strerror}", hint)
        sys.exit(_for_git(2) if denied else 128)
    except Exception:
        _print_traceback()


def _tell(message: str, hint: str | None) -> None:
    """Say what is wrong, and what helps; the console, a tenth of the time that a command takes, is made only here."""
    from rich.markup import escape  # noqa: PLC0415

    from testbed.cli.terminal import err  # noqa: PLC0415

    err.print(f"[red]error[/red]: {escape(message)}", highlight=False, soft_wrap=True)
    if hint:
        err.print(f"[yellow]hint[/yellow]: {escape(hint)}", highlight=False, soft_wrap=True)


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
