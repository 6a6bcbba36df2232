"""The examples of docs/api.md, run as a reader would run them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
RUN = (sys.executable, "-m", "testbed", "run")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def run(folder: Path, texts: list[str], *options: str) -> None:
    """Run examples, each in a file of its own, and see that each is answered with good."""
    names = []
    for number, text in enumerate(texts):
        (folder / f"ask{number}.py").write_text(text)
        names.append(f"./ask{number}.py")
    command = [*RUN, *names, *options, "--json", "out.json"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    written = json.loads((folder / "out.json").read_text())
    cells = [cell for report in (written if len(texts) > 1 else [written]) for cell in report["cells"]]
    assert [(cell["scenario"], cell["verdict"]) for cell in cells if cell["verdict"] != "good"] == [], result.stdout
    assert len(cells) == len(texts)
    assert result.returncode == 0, result.stderr


@pytest.mark.seconds(15)
def test_the_examples_that_any_machine_answers(tmp_path: Path) -> None:
    run(tmp_path, [text for text in blocks("python") if "Channel(" not in text])


@pytest.mark.seconds(10)
def test_the_channels_example_on_its_machine(tmp_path: Path) -> None:
    (template,) = blocks("yaml")
    (tmp_path / "channel.yaml.j2").write_text(template)
    run(tmp_path, [text for text in blocks("python") if "Channel(" in text], "--machine", "./channel.yaml.j2")
