"""The command line given something wrong, in this process."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from testbed.cli import main

from .conftest import processes_naming

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def refuse(monkeypatch: pytest.MonkeyPatch, folder: Path, arguments: Sequence[str]) -> int:
    """Run the command, FOLDER standing for the folder, which has to end by itself; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["testbed", *(word.replace("FOLDER", str(folder)) for word in arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def assert_told_once(told: tuple[str, str], folder: Path, message: str) -> None:
    """Check that stderr has one error, this one, that stdout has none, and that nothing is left running."""
    out, err = told
    assert message.replace("FOLDER", str(folder)) in err
    assert "Traceback" not in err
    assert len(re.findall(r"^(?:error|╭─ error)", err.lower(), re.MULTILINE)) == 1
    assert not [line for line in out.splitlines() if line.startswith("error")]
    assert processes_naming(folder) == []
