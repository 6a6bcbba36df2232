"""Case files: the shipped ones load whole; a mistake in one is named by file and line."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from testbed.campaign.case import load_case, read_case, with_kernel
from testbed.host.apt_sources import running_codename
from testbed.machine.template import load_template
from testbed.model.catalog import CASES, RECIPES
from testbed.model.cmdline import CommandLine
from testbed.model.errors import InputError
from testbed.model.outcome import Because, Role, Verdict
from testbed.scenarios.scenario import find_scenario

README = Path(__file__).parents[2] / "README.md"
HEAD = "title: t\ndescription: d\ncells:\n"
ROW = "- {machine: q35, scenario: disk-unplug, expect: good, outcome: x}\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text.replace("{Q", "{machine: q35, scenario: a, expect: good, outcome: x"))
    return path


@pytest.mark.parametrize("name", CASES.names())
def test_a_shipped_case_names_only_what_exists(name: str) -> None:
    case = load_case(name)
    assert case.name == name
    assert case.title
    assert case.references
    for cell in case.cells:
        find_scenario(cell.scenario)
        load_template(cell.machine).spec(cell.parameters)
        CommandLine(cell.cmdline).check()
        assert cell.image in RECIPES.names()


def test_the_readme_counts_the_shipped_cases_and_their_cells() -> None:
    counts = re.search(r"documented bugs: (\d+), in (\d+) cells", README.read_text(encoding="utf-8"))
    assert counts
    cells = [cell for name in CASES.names() for cell in load_case(name).cells]
    assert [int(count) for count in counts.groups()] == [len(CASES.names()), len(cells)]


@pytest.mark.parametrize("name", CASES.names())
def test_a_shipped_case_has_a_failing_and_a_control_cell_with_other_verdicts(name: str) -> None:
    verdicts = {role: {cell.expected for cell in load_case(name).cells if cell.role is role} for role in Role}
    assert verdicts[Role.FAILING]
    assert verdicts[Role.CONTROL]
    assert not verdicts[Role.FAILING] & verdicts[Role.CONTROL]


@pytest.mark.parametrize("name", CASES.names())
def test_every_cell_of_a_shipped_case_names_its_outcome_and_a_bad_one_what_it_rests_on(name: str) -> None:
    for cell in load_case(name).cells:
        assert cell.expected_outcome
        assert cell.because or cell.expected is Verdict.GOOD, cell.id
        for pin in cell.because:
            # not the words of a kernel, which change with its version
            assert not re.search(r"pcieport|AER: ", pin.observed), pin


def test_the_id_of_a_cell_names_the_suite_of_its_qemu() -> None:
    ids = [cell.id for cell in load_case("second-device-on-a-port").cells]
    assert not any("{codename}" in each for each in ids)
    assert any(f"{{qemu={running_codename()}-backports}}" in each for each in ids)


@pytest.mark.parametrize("name", CASES.names())
def test_a_shipped_case_asks_nothing_twice(name: str) -> None:
    # of the same question for different versions each row has its rule
    ids = [(cell.id, cell.image, bool(cell.since), bool(cell.until)) for cell in load_case(name).cells]
    assert len(ids) == len(set(ids))
    asked = Counter(id_ for id_, image, *_ in ids if image == "debian")
    assert all(since or until for id_, _, since, until in ids if asked[id_] > 1)


def test_a_row_of_several_scenarios_is_as_many_cells(tmp_path: Path) -> None:
    text = (
        HEAD + "- {machine: q35, scenario: [disk-plug, disk-unplug], expect: [good, bad],"
        " outcome: [in, out], cmdline: a, role: failing}\n"
    )
    cells = read_case(written(tmp_path, text), "c").cells
    assert [(cell.scenario, cell.expected, cell.expected_outcome) for cell in cells] == [
        ("disk-plug", Verdict.GOOD, "in"),
        ("disk-unplug", Verdict.BAD, "out"),
    ]
    assert {(cell.cmdline, cell.role, cell.image) for cell in cells} == {("a", Role.FAILING, "debian")}


def test_one_verdict_stands_for_all_scenarios_of_a_row(tmp_path: Path) -> None:
    text = HEAD + "- {machine: q35, scenario: [disk-plug, disk-unplug], expect: bad, outcome: x}\n"
    assert [cell.expected for cell in read_case(written(tmp_path, text), "c").cells] == [Verdict.BAD] * 2


def test_what_a_verdict_rests_on_may_differ_by_scenario(tmp_path: Path) -> None:
    pins = "{disk-unplug: [{subject: port, observed: nobody}]}"
    row = f"{{machine: q35, scenario: [disk-plug, disk-unplug], expect: bad, outcome: x, because: {pins}}}"
    plug, unplug = read_case(written(tmp_path, f"{HEAD}- {row}\n"), "c").cells
    assert plug.because == ()
    assert unplug.because == (Because(subject="port", observed="nobody"),)


def test_a_rows_image_wins_over_the_cases(tmp_path: Path) -> None:
    text = f"image: debian-backports\n{HEAD}{ROW}- {{Q, image: debian}}\n"
    assert [cell.image for cell in read_case(written(tmp_path, text), "c").cells] == ["debian-backports", "debian"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD + ROW + "- machine: q35\n  scenario: [disk-plug]\n  expect: [good, bad]\n  outcome: x\n",
            "c.yaml:7: 2 verdicts for 1 scenarios",
        ),
        (
            HEAD + "- machine: q35\n  scenario: [a, b, c]\n  expect:\n  - good\n  - bad\n  outcome: x\n",
            "2 verdicts for 3 scenarios",
        ),
        (HEAD + ROW + "  \nowner: me\n", "c.yaml:6: owner: Extra inputs are not permitted"),
        (
            HEAD + "- {Q, retries: 3}\n",
            "c.yaml:4: cells.0.retries: Extra inputs",
        ),
        (
            HEAD + "- {machine: q35, scenario: a, expect: fine, outcome: x}\n",
            "c.yaml:4: cells.0.expect.0: Input should be 'good'",
        ),
        (HEAD + "- {Q, role: main}\n", "c.yaml:4: cells.0.role: "),
        (HEAD + "- {machine: q35, scenario: [], expect: good, outcome: x}\n", "c.yaml:4: cells.0.scenario: "),
        (HEAD + "- {machine: q35, scenario: a, expect: [], outcome: x}\n", "c.yaml:4: cells.0.expect: "),
        (HEAD + "- {machine: q35, scenario: a}\n", "c.yaml:4: cells.0.expect: Field required"),
        (HEAD + "- {machine: q35, scenario: a, expect: good}\n", "c.yaml:4: cells.0.outcome: Field required"),
        (
            HEAD + "- {machine: q35, scenario: a, expect: good, outcome: [x, y]}\n",
            "c.yaml:4: 2 outcomes for 1 scenarios",
        ),
        (HEAD + "- {machine: q35, scenario: a, expect: bad, outcome: x, because: {b: []}}\n", "c.yaml:4: 'b' is not a"),
        (
            HEAD + "- {machine: q35, scenario: a, expect: bad, outcome: x, because: [{subject: s, observed: '('}]}\n",
            "is not a regular expression",
        ),
        (HEAD + "- {scenario: a, expect: good, outcome: x}\n", "c.yaml:4: cells.0.machine: Field required"),
        (HEAD + "- {Q, cmdline: 5}\n", "c.yaml:4: cells.0.cmdline: "),
        (
            HEAD + "- {Q, parameters: [x]}\n",
            "c.yaml:4: cells.0.parameters: ",
        ),
        (HEAD + "  []\n", "c.yaml:4: cells: List should have at least 1 item"),
        ("kind: recipe\n" + HEAD + ROW, "c.yaml:1: kind: "),
        ("- a\n", "c.yaml:1: document: "),
        ("", "holds 0 YAML documents, a case is one"),
        (HEAD + ROW + "---\n" + HEAD + ROW, "holds 2 YAML documents, a case is one"),
        (HEAD + "- {machine: q35\n", "c.yaml:5: not valid YAML"),
        (
            HEAD + "- {machine: q35, machine: q35, scenario: a, expect: good, outcome: x}\n",
            "c.yaml:4: 'machine' is given twice",
        ),
    ],
)
def test_a_mistake_is_named_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_case(written(tmp_path, text), "c")
    assert message in caught.value.message


def test_an_unknown_case_is_answered_with_the_closest() -> None:
    with pytest.raises(InputError, match="case 'pcie-aspm-of' does not exist") as caught:
        load_case("pcie-aspm-of")
    assert "did you mean pcie-aspm-off?" in (caught.value.hint or "")


def test_an_image_given_for_a_case_replaces_the_kernel_of_each_cell_s_recipe() -> None:
    cells = [*load_case("sriov-walkthrough").cells, *load_case("aer-passthrough").cells]
    told: list[str] = []
    changed = with_kernel(cells, "debian-backports", tell=told.append)
    level1 = "level1@apt:linux-image-amd64@{codename}-backports"
    images = {"debian": "debian-backports", "debian-backports": "debian-backports", "level1": level1}
    assert [cell.image for cell in changed] == [images[cell.image] for cell in cells]
    assert [cell.model_copy(update={"image": ""}) for cell in changed] == [
        cell.model_copy(update={"image": ""}) for cell in cells
    ]
    assert len(told) == 2, "what stays what it is is not told"
    assert any(words.startswith(f"--image: {level1} in place of level1 in ") for words in told)
