"""An atlas: which places it has, what could be had for it, and what its outcomes say together."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from testbed import __version__
from testbed.campaign.atlas import ahead
from testbed.campaign.atlas.ahead import Columns, check_unchanged
from testbed.campaign.atlas.atlas import Atlas, AtlasPlan, recorded_plan
from testbed.campaign.atlas.survey import survey
from testbed.cli import atlas as atlas_command
from testbed.cli.commands import load
from testbed.model.atlas import AtlasColumn, AtlasGap, AtlasReport
from testbed.model.errors import InputError, LackingError
from testbed.model.matrix import MatrixRun
from testbed.model.outcome import CaseResult, Verdict
from testbed.report.atlas import atlas_html, atlas_json, atlas_page
from testbed.report.atlas_words import summary

from .outcomes import outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from testbed.campaign.atlas.atlas import Cross
    from testbed.model.outcome import Cell, Outcome
    from testbed.model.spec import FirmwareKind

CASE = "second-device-on-a-port"
K61 = AtlasColumn(name="debian", version="6.1.0-57-amd64", package="linux-image-6.1.0-57-amd64 6.1.1", sha256="a" * 64)
K510 = AtlasColumn(name="old", version="5.10.0-32-amd64", package="linux-image 5.10.223", sha256="c" * 64)
K612 = AtlasColumn(name="debian-backports", version="6.12.95+deb12-amd64", package="linux-image 6.12", sha256="b" * 64)
Q52, Q72, Q100, Q111 = (
    AtlasColumn(name=name, version=version, package=f"{version} (Debian)", sha256=version[0] * 64)
    for name, version in (("bullseye", "5.2.0"), ("", "7.2.22"), ("bookworm-backports", "10.0.2"), ("sid", "11.1.3"))
)


def atlas(
    *qemus: AtlasColumn,
    kernels: tuple[AtlasColumn, ...] = (K61,),
    cross: Cross = "star",
    firmwares: tuple[FirmwareKind, ...] = ("seabios",),
    cases: tuple[str, ...] = (CASE,),
) -> Atlas:
    gaps = [AtlasGap(axis="qemu", name="buster", why="the configured archive has no suite buster")]
    plan = AtlasPlan(
        cases=list(cases),
        kernels=list(kernels),
        qemus=list(qemus),
        firmwares=list(firmwares),
        gaps=gaps,
        cross=cross,
        testbed="1.2",
    )
    return Atlas(plan=plan)


@pytest.mark.parametrize(
    ("cross", "wanted"),
    [
        ("kernels", ["5.10 7.2", "6.1 7.2", "6.12 7.2"]),
        ("qemus", ["6.1 5.2", "6.1 7.2", "6.1 10.0", "6.1 11.1"]),
        ("corners", ["5.10 5.2", "5.10 11.1", "6.12 5.2", "6.12 11.1"]),
        ("firmwares", ["6.1 7.2", "6.1 7.2 ovmf"]),
    ],
)
def test_a_part_of_a_star_has_one_axis_of_its_centre_or_its_corners(cross: Cross, wanted: list[str]) -> None:
    """The centre is what is named first, whatever its version."""
    assert places(Q72, Q111, Q52, Q100, cross=cross) == wanted


def test_a_star_has_all_its_parts_and_a_full_cross_everything() -> None:
    parts: tuple[Cross, ...] = ("kernels", "qemus", "corners", "firmwares")
    of_parts = {place for cross in parts for place in places(Q72, Q111, Q52, Q100, cross=cross)}
    assert set(places(Q72, Q111, Q52, Q100, cross="star")) == of_parts
    assert len(places(Q72, Q111, Q52, Q100, cross="full")) == 3 * 4 * 2 > len(of_parts)


def places(*qemus: AtlasColumn, cross: Cross) -> list[str]:
    grid = atlas(*qemus, kernels=(K61, K612, K510), cross=cross, firmwares=("seabios", "ovmf"))
    return [
        " ".join((short(at.kernel), short(at.qemu), *(["ovmf"] if at.firmware == "ovmf" else [])))
        for at in grid.plan.places
    ]


def short(column: AtlasColumn) -> str:
    return ".".join(column.version.split(".")[:2])


def test_a_firmware_is_a_parameter_and_machines_without_a_choice_of_it_are_left_out() -> None:
    grid = atlas(Q100, firmwares=("seabios", "ovmf"), cases=("pvh-start-does-not-resume", "sriov-walkthrough", CASE))
    of_place: dict[tuple[str, str], list[Cell]] = {}
    for index in range(len(grid)):
        axes = grid.row(index).axes
        of_place.setdefault((axes["case"], axes["firmware"]), []).append(grid[index])
    assert {cell.parameters.get("firmware") for cell in of_place[CASE, "seabios"]} == {None}
    assert [cell.parameters.get("firmware") for cell in of_place[CASE, "ovmf"]] == ["ovmf"] * 3
    assert all(cell.parameters.get("start") != "pvh" for cell in of_place["pvh-start-does-not-resume", "ovmf"])
    assert len(of_place["sriov-walkthrough", "seabios"]) > 0
    assert ("sriov-walkthrough", "ovmf") not in of_place


def test_every_cell_of_the_case_is_on_every_place_with_its_kernel_and_qemu() -> None:
    cells = atlas(Q52, Q72, kernels=(K61, K612), cross="full")
    of_case = len(cells.cases[0].cells)
    assert len(cells) == of_case * 4
    rows = [cells.row(index).axes for index in range(len(cells))]
    assert len({(axes["kernel"], axes["qemu"]) for axes in rows}) == 4
    for index in range(len(cells)):
        assert (cells[index].image, cells[index].qemu) == (rows[index]["kernel"], rows[index]["qemu"])
        assert cells[index].expected is not None


def test_rows_that_only_their_kernel_tells_apart_are_one_cell() -> None:
    """The shipped case asks the same of two kernels; on a place there is one."""
    name = "aer-endpoint-recovery"
    cells = Atlas(plan=AtlasPlan(cases=[name], kernels=[K61], qemus=[Q72], gaps=[], cross="star"))
    ids = [cell.id for cell in cells]
    assert len(ids) == len(set(ids)) < len(cells.cases[0].cells)


def test_it_is_remembered_as_it_was_made(tmp_path: Path) -> None:
    plan = atlas(Q52, Q72).plan
    (tmp_path / "atlas.json").write_text(plan.record)
    assert recorded_plan(tmp_path / "atlas.json") == plan
    (tmp_path / "atlas.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        recorded_plan(tmp_path / "atlas.json")
    with pytest.raises(InputError, match="no such file"):
        recorded_plan(tmp_path / "none.json")


# ---- fetched ahead ----


def test_what_the_archive_has_lost_is_named_and_the_rest_is_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = {"": binary(tmp_path)}
    fetched: list[str] = []

    def find(name: str) -> object:
        if name not in there:
            raise LackingError(f"QEMU {name!r}: none", lacking=name)
        return there[name]

    def fetch(name: str, *, progress: object) -> None:
        fetched.append(name)
        if name == "buster":
            raise InputError("the configured archive has no suite buster, or no longer has it")
        there[name] = binary(tmp_path)

    monkeypatch.setattr(ahead, "find_qemu", find)
    monkeypatch.setattr(ahead, "fetch_qemu", fetch)
    monkeypatch.setattr(ahead, "ensure_image", lambda name, progress: image("6.1-" + name))
    said: list[str] = []
    columns = Columns(["debian"], ["", "buster", "sid", "/opt/qemu"], fetch=True, progress=said.append)
    assert fetched == ["buster", "sid"], "what is there, and what is a path, is not fetched"
    assert [(each.name, each.version) for each in columns.qemus] == [("", "7.2.22"), ("sid", "7.2.22")]
    assert [(gap.axis, gap.name) for gap in columns.gaps] == [("qemu", "buster"), ("qemu", "/opt/qemu")]
    made_with = {"package": "linux-image 6.1.1", "sha256": "d" * 64}
    assert columns.kernels == [AtlasColumn(name="debian", version="6.1-debian", **made_with)]
    assert columns.qemus[0].package == "7.2.22 (Debian 1:7.2+dfsg-7)"
    assert columns.qemus[0].sha256 == hashlib.sha256(b"a QEMU").hexdigest()
    assert any(words.startswith("[2/5] qemu buster: unavailable: the configured archive") for words in said)
    assert "[5/5] kernel debian: 6.1-debian" in said
    assert said[-1] == "2 of 5 not available: continuing without"
    fetched.clear()
    assert not Columns([], ["trixie"], fetch=False, progress=said.append).qemus
    assert fetched == []


def test_one_is_not_gone_on_with_on_another_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = {"": binary(tmp_path), "sid": binary(tmp_path)}
    kernels = {"debian": image("6.1.0-57-amd64")}
    monkeypatch.setattr(ahead, "find_qemu", lambda name: there[name])
    monkeypatch.setattr(ahead, "ensure_image", lambda name, progress: kernels[name])
    columns = Columns(["debian"], ["", "sid"], fetch=False, progress=print)
    plan = atlas(*columns.qemus, kernels=tuple(columns.kernels)).plan
    check_unchanged(plan, progress=print)
    kernels["debian"] = image("6.1.0-57-amd64", package="linux-image 6.1.2")
    with pytest.raises(
        InputError, match=r"kernel debian is another build of 6\.1\.0-57-amd64 now, linux-image 6\.1\.2,"
    ):
        check_unchanged(plan, progress=print)
    kernels["debian"] = image("6.1.0-58-amd64")
    with pytest.raises(InputError, match=r"kernel debian is 6\.1\.0-58-amd64 now, but was 6\.1\.0-57-amd64 when"):
        check_unchanged(plan, progress=print)
    there["sid"].path.write_bytes(b"another QEMU")
    with pytest.raises(InputError, match=r"QEMU \(default\) is another build of 7\.2\.22 now"):
        check_unchanged(plan, progress=print)


def binary(folder: Path) -> SimpleNamespace:
    path = folder / "qemu-system-x86_64"
    path.write_bytes(b"a QEMU")
    return SimpleNamespace(path=path, version="7.2.22 (Debian 1:7.2+dfsg-7)")


def image(kernel: str, package: str = "linux-image 6.1.1") -> SimpleNamespace:
    return SimpleNamespace(kernel=kernel, package=package, id="d" * 64)


@pytest.mark.parametrize("words", [["--cross", "star"], ["--fresh"], ["--time", "real"]])
def test_a_resumed_one_is_run_as_it_began(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(InputError, match="run options cannot be changed"):
        CliRunner().invoke(load("atlas"), ["--resume", str(tmp_path), *words], catch_exceptions=False)


def test_what_the_command_line_says_is_in_the_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ahead, "find_qemu", lambda _: binary(tmp_path))
    monkeypatch.setattr(ahead, "ensure_image", lambda name, progress: image("6.1-" + name))
    seen: list[AtlasPlan] = []

    def run(atlas: Atlas, *_: object) -> tuple[AtlasReport, list[Outcome], None]:
        seen.append(atlas.plan)
        return survey(atlas, []), [], None

    monkeypatch.setattr(atlas_command, "_run", run)
    words = [CASE, "aer-passthrough", "--except", "aer-passthrough", "--qemu", "q", "--image", "debian", "--fresh"]
    words += ["--cross", "full", "--time", "real", "--firmware", "ovmf", "--firmware", "seabios"]
    result = CliRunner().invoke(load("atlas"), [*words, "--rundir", str(tmp_path)])
    assert result.exit_code == 125, result.output
    (plan,) = seen
    assert (plan.cases, plan.cross, plan.start, plan.time) == ([CASE], "full", "fresh", "real")
    assert (plan.firmwares, plan.testbed) == (["ovmf", "seabios"], __version__)
    assert [cell.start for cell in Atlas(plan=plan)] == ["fresh"] * 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--firmware", "coreboot"], "firmware 'coreboot' does not exist"),
        ([CASE, "--except", CASE], "no cases left"),
        (["--except", "nosuch"], "nosuch"),
    ],
)
def test_a_wrong_choice_is_refused_before_anything_is_fetched(words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CliRunner().invoke(load("atlas"), words, catch_exceptions=False)


# ---- what it says ----


def judged(grid: Atlas, answer: Callable[[Cell], Outcome]) -> AtlasReport:
    runs = (MatrixRun(index=n, row=grid.row(n), outcome=answer(grid[n])) for n in range(len(grid)))
    return survey(grid, runs)


def as_documented(cell: Cell, **given: object) -> Outcome:
    expected = {"expected": cell.expected, "role": cell.role, "expected_outcome": cell.expected_outcome}
    plain = {"id": cell.id, "verdict": cell.expected, "outcome": cell.expected_outcome}
    return outcome(**{**plain, **expected, **given})  # type: ignore[arg-type]


def accepts_until_8_1(cell: Cell) -> Outcome:
    """Answer as QEMU does: one before 8.1 takes the second device, a later one refuses it."""
    old = cell.qemu in ("bullseye", "")
    if (cell.until and not old) or (cell.since and old):
        reason = "documented until 8.1" if cell.until else "documented since 10.0"
        return as_documented(cell, verdict=Verdict.SKIP, outcome="unsupported", reason=reason)
    return as_documented(cell)


def test_a_boundary_has_the_versions_between_which_the_answer_changes_and_the_rule_s_reason() -> None:
    report = judged(atlas(Q100, Q52, Q72, Q111), accepts_until_8_1)
    (case,) = report.cases
    (boundary,) = case.boundaries
    assert (boundary.axis, boundary.beside, boundary.before, boundary.since) == ("qemu", "debian", "7.2.22", "10.0.2")
    assert (boundary.answer_before, boundary.answer_since) == ("bad (accepted)", "good (refused)")
    assert "refused in 10.0" in boundary.reason
    assert boundary.cell == "disk-plug-busy q35[hotplug=native]"


@pytest.mark.parametrize(
    ("outcome", "answer", "reason"),
    [
        ("unsupported", "cannot be asked", "QEMU 5.2.0 has no set-action"),
        ("other-version", "no row of the case", ""),
    ],
)
def test_a_version_without_an_answer_says_whether_it_lacks_something(outcome: str, answer: str, reason: str) -> None:
    def lacking(cell: Cell) -> Outcome:
        if cell.qemu == "bullseye":
            return as_documented(cell, verdict=Verdict.SKIP, outcome=outcome, reason="QEMU 5.2.0 has no set-action")
        return as_documented(cell)

    report = judged(atlas(Q52, Q72, cases=("nvme-behind-a-lost-link",)), lacking)
    assert {(each.answer_before, each.reason) for each in report.cases[0].boundaries} == {(answer, reason)}


def test_what_differs_is_no_reproduction_and_is_named() -> None:
    def broken_rule(cell: Cell) -> Outcome:
        return as_documented(cell, verdict=Verdict.BAD, outcome="other") if cell.qemu == "sid" else as_documented(cell)

    grid = atlas(Q72, Q111)
    report = judged(grid, broken_rule)
    old, new = report.cases[0].results
    assert (old.result, new.result) == (CaseResult.REPRODUCED, CaseResult.DIFFERS)
    assert old.differing == []
    assert sum(note.count for note in new.differing) == len(grid.cases[0].cells)
    assert report.complete


def test_a_page_says_where_it_is_reproduced_and_what_could_not_be_had() -> None:
    report = judged(atlas(Q52, Q72, Q111), accepts_until_8_1)
    page = atlas_page(report)
    places = " | ".join(f"Linux 6.1.0, QEMU {version}" for version in ("5.2.0", "7.2.22", "11.1.3"))
    assert f"| case | {places} | changes between |" in page
    assert "| QEMU 7.2.22 → 11.1.3 |" in page
    assert "- not available: QEMU `buster`: the configured archive has no suite buster" in page
    assert "bad (accepted) up to QEMU 7.2.22, good (refused) from 11.1.3 on: " in page
    assert "skipped: 1 cell: documented until 8.1" in page
    assert "on Linux 6.1.0: reproduced with QEMU 5.2.0, 7.2.22 of 5.2.0, 7.2.22, 11.1.3" in page
    assert "skipped: 2 cells: documented since 10.0" in page
    assert "(seen on Linux 6.1.0)" in page
    assert "- QEMU 11.1.3 (`sid`): 11.1.3 (Debian), sha256 111111111111" in page
    assert ", by testbed 1.2." in page
    assert AtlasReport.model_validate_json(atlas_json(report)) == report


def test_the_html_page_says_the_same_with_signs_and_colours_and_nothing_of_it_is_markup() -> None:
    def answered(cell: Cell) -> Outcome:
        if cell.qemu == "sid":
            return as_documented(cell, verdict=Verdict.BROKEN, reason="<img src=x onerror=alert(1)>")
        return accepts_until_8_1(cell)

    report = judged(atlas(Q72, Q100, Q111, firmwares=("seabios", "ovmf")), answered)
    page = atlas_html(report)
    assert '<th scope="col">Linux 6.1.0, QEMU 7.2.22, ovmf</th>' in page
    assert '<td class="said good">✓ yes</td>' in page
    assert '<td class="said broken">! broken</td>' in page
    assert "<code>disk-plug-busy q35[hotplug=native]</code>: bad (accepted) up to QEMU 7.2.22" in page
    assert "<img" not in page
    assert "<script" not in page
    assert "&lt;img src=x" in page
    assert "style-src 'sha256-" in page
    assert "script-src" not in page


def test_outcomes_of_a_case_that_has_changed_since_are_not_taken_for_others() -> None:
    grid = atlas(Q52, Q72)
    other = as_documented(grid[0], id="disk-unplug q35 quiet")
    with pytest.raises(InputError, match=r"disk-unplug q35 quiet was judged, but its case has disk-plug-busy"):
        survey(grid, [MatrixRun(index=0, row=grid.row(0), outcome=other)])


def test_of_pairs_of_versions_between_which_it_changes_the_narrowest_are_in_the_summary() -> None:
    """The corner of another kernel knows only that it changes between 5.2 and 11.1."""
    report = judged(atlas(Q111, Q52, Q72, kernels=(K61, K612)), accepts_until_8_1)
    assert {(each.before, each.since) for each in report.cases[0].boundaries} == {
        ("5.2.0", "11.1.3"),
        ("7.2.22", "11.1.3"),
    }
    (row,) = summary(report).rows
    assert row.changes == "QEMU 7.2.22 → 11.1.3"


def test_one_that_was_interrupted_says_so() -> None:
    grid = atlas(Q52, Q72)
    report = survey(grid, [MatrixRun(index=0, row=grid.row(0), outcome=as_documented(grid[0]))])
    assert (report.complete, report.cells) == (False, 1)
    assert "| ✓ yes, 2 not run |" in atlas_page(report)
    assert "It was interrupted" in atlas_page(report)


def test_no_boundary_rests_on_a_place_of_which_a_row_has_not_run() -> None:
    """The row for the newer versions had not, and they seemed to have none."""
    grid = atlas(Q72, Q100)
    runs = [MatrixRun(index=n, row=grid.row(n), outcome=accepts_until_8_1(grid[n])) for n in range(len(grid))]
    assert survey(grid, runs).cases[0].boundaries
    whole, last = runs[:-1], runs[-1]
    assert last.row.axes["qemu"] == "bookworm-backports"
    assert not survey(grid, whole).cases[0].boundaries
