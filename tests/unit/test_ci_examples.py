"""The workflows of docs/ci.md: what the services' schemas and a shell say of them, and whether their commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from .test_docs import ROOT, commands_of, problem_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = (ROOT / "docs" / "ci.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """Return the page's blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


GITHUB, GITHUB_STEP, GITLAB = blocks("yaml")
(JENKINS,) = blocks("groovy")


def with_step(workflow: str, steps: str) -> str:
    """Return a workflow whose job ends with further steps."""
    read = yaml.safe_load(workflow)
    # YAML 1.1 takes GitHub's `on` for a bool
    read["on"] = read.pop(True)
    (job,) = read["jobs"].values()
    job["steps"] += yaml.safe_load(steps)
    return yaml.safe_dump(read)


def schema_says(schema: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Check a file against one of the schemas that come with check-jsonschema; nothing is downloaded."""
    file = folder / "workflow.yml"
    file.write_text(text)
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ("github-workflows", GITHUB),
        ("github-workflows", with_step(GITHUB, GITHUB_STEP)),
        ("gitlab-ci", GITLAB),
    ],
    ids=["GitHub", "GitHub with the step for verdicts alone", "GitLab"],
)
def test_a_workflow_fits_its_services_schema(schema: str, text: str, tmp_path: Path) -> None:
    said = schema_says(schema, text, tmp_path)
    assert said.returncode == 0, said.stdout


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ("github-workflows", GITHUB.replace("runs-on:", "run-on:")),
        ("gitlab-ci", GITLAB.replace("when: always", "when: ever")),
    ],
    ids=["GitHub", "GitLab"],
)
def test_a_wrong_workflow_does_not(schema: str, text: str, tmp_path: Path) -> None:
    assert schema_says(schema, text, tmp_path).returncode == 1


def scripts() -> Iterator[str]:
    """Yield what the jobs give to a shell."""
    for job in yaml.safe_load(with_step(GITHUB, GITHUB_STEP))["jobs"].values():
        yield from (step["run"] for step in job["steps"] if "run" in step)
    for job in yaml.safe_load(GITLAB).values():
        yield "\n".join(job["script"])
    yield from re.findall(r"sh '(.*)'$", JENKINS, re.MULTILINE)


@pytest.mark.parametrize("script", list(scripts()))
def test_a_step_is_a_shell_script_whose_commands_exist(script: str) -> None:
    said = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    wrong: list[Any] = [problem_of(words) for line in script.splitlines() for words in commands_of(line)]
    assert not [each for each in wrong if each]


def test_every_job_has_a_command_of_the_bed() -> None:
    shown = [words for script in scripts() for line in script.splitlines() for words in commands_of(line)]
    assert [words[0] for words in shown] == ["doctor", "compare", "compare", "compare", "matrix"]
