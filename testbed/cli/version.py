"""`testbed version`."""

from __future__ import annotations

from testbed import __version__


def version() -> None:
    """Print the version."""
    print(f"testbed {__version__}")
