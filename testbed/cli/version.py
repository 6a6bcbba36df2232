"""`testbed version`."""

from __future__ import annotations

from testbed import __version__
from testbed.cli.terminal import plain


def version() -> None:
    """Print the version."""
    plain(f"testbed {__version__}")
