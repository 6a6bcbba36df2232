"""What Tab completes in a shell: typer's protocol, spoken as bash speaks it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def completed(line: str) -> list[str]:
    """Return what is offered for the last word of a line."""
    words = line.split(" ")
    environment = {
        **os.environ,
        "_TESTBED_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    program = "import sys; sys.argv = ['testbed']; from testbed.cli import main; main()"
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert said.stderr == ""
    return said.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("testbed do", ["doctor"]),
        ("testbed run --kt", ["--ktap"]),
        ("testbed run pcie-as", ["pcie-aspm-off"]),
        ("testbed run disk-unplug-t", ["disk-unplug-twice"]),
        ("testbed image re", ["remove"]),
        ("testbed nothing-of-the-kind --h", ["--help"]),
    ],
)
def test_a_word_is_completed(line: str, offered: list[str]) -> None:
    assert completed(line) == offered
