"""The cache of trials: whatever could change a trial changes its key, and only judgements are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.campaign.bisect import trial_cache
from testbed.campaign.bisect.trial_cache import TrialCache, trial_key
from testbed.campaign.trial_run import Prepared
from testbed.host.accel import Accel
from testbed.image.store import Image
from testbed.machine.template import load_template
from testbed.model.cmdline import CommandLine
from testbed.model.outcome import Role, Verdict
from testbed.scenarios.scenario import find_scenario
from tests.unit.bisect_bed import BAD, GOOD, NO_BOOT, Said, cell, outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.host.qemu import Qemu


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path))
    monkeypatch.setattr(trial_cache, "program_hashes", lambda path, command: [str(path), *command])


@pytest.fixture
def prepared(paper_qemu: Callable[..., Qemu], tmp_path: Path) -> Prepared:
    given = cell("quiet", parameters={"hotplug": "native"})
    template = load_template("q35")
    return Prepared(
        cell=given,
        scenario=find_scenario("disk-unplug"),
        options={},
        template=template,
        machine=template.render(given.parameters),
        spec=template.spec(given.parameters),
        cmdline=CommandLine("quiet"),
        qemu=paper_qemu(),
        accel=Accel(name="tcg", reason="asked for"),
        image=_image(tmp_path, "a" * 64),
    )


def _image(folder: Path, identity: str) -> Image:
    return Image(
        name="debian",
        id=identity,
        key="k",
        folder=folder,
        kernel="6.1",
        package="linux-image 6.1",
        bzimage=None,
        vmlinux=folder / "vmlinux",
        initramfs=folder / "initramfs",
        modules=(),
        absent=(),
        size=1,
    )


def test_the_same_trial_has_the_same_key(prepared: Prepared) -> None:
    assert trial_key(prepared, 1) == trial_key(replace(prepared), 1)


def test_what_a_cell_is_expected_to_be_does_not_count(prepared: Prepared) -> None:
    expecting = prepared.cell.model_copy(update={"expected": Verdict.BAD, "role": Role.FAILING})
    assert trial_key(prepared, 1) == trial_key(replace(prepared, cell=expecting), 1)


def test_whatever_could_change_a_trial_changes_its_key(
    prepared: Prepared, paper_qemu: Callable[..., Qemu], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(**changes: object) -> str:
        return trial_key(replace(prepared, cell=prepared.cell.model_copy(update=changes)), 1)

    own = tmp_path / "own.yaml.j2"
    own.write_text(prepared.template.path.read_text() + "# another\n")
    scenario = tmp_path / "own.py"
    scenario.write_text(Path(trial_cache.__file__).with_name("none").name)
    keys = [
        trial_key(prepared, 1),
        trial_key(prepared, 2),
        of(cmdline="quiet ro"),
        of(parameters={"hotplug": "acpi"}),
        of(scenario="disk-plug"),
        of(time="real"),
        of(start="fresh"),
        trial_key(replace(prepared, template=replace(prepared.template, path=own)), 1),
        trial_key(replace(prepared, qemu=paper_qemu(path="/opt/other/qemu")), 1),
        trial_key(replace(prepared, accel=Accel(name="kvm", reason="works")), 1),
        trial_key(replace(prepared, image=_image(tmp_path, "b" * 64)), 1),
        trial_key(replace(prepared, scenario=find_scenario("disk-plug")), 1),
    ]
    monkeypatch.setattr(trial_cache, "own_source", lambda: "an edited test bed")
    keys.append(trial_key(prepared, 1))
    assert len(set(keys)) == len(keys)


def test_a_disk_of_the_users_own_counts_with_its_content(prepared: Prepared, tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(b"0" * 512)
    (disk,) = prepared.spec.disks
    own = prepared.spec.model_copy(update={"disks": [disk.model_copy(update={"path": str(image)})]})
    before = trial_key(replace(prepared, spec=own), 1)
    image.write_bytes(b"1" * 1024)
    assert trial_key(replace(prepared, spec=own), 1) != before


@pytest.mark.parametrize(
    ("said", "kept"), [(GOOD, True), (BAD, True), (NO_BOOT, False), ((Verdict.SKIP, "unsupported"), False)]
)
def test_only_judgements_are_kept(said: Said, kept: bool, tmp_path: Path) -> None:
    cache, made = TrialCache(), outcome(cell("quiet"), said, tmp_path)
    cache.keep("key", made)
    assert cache.find("key") == (made if kept else None)
    assert len(cache.files()) == kept


@pytest.mark.parametrize("text", ["", "{", "[]", '{"verdict": "good"}', "\0\0"])
def test_a_damaged_file_is_no_trial(text: str, tmp_path: Path) -> None:
    cache, made = TrialCache(), outcome(cell("quiet"), GOOD, tmp_path)
    (cache.folder / "key.json").write_text(text)
    assert cache.find("key") is None
    cache.keep("key", made)
    assert cache.find("key") == made


def test_clearing_takes_half_written_files_too(tmp_path: Path) -> None:
    cache = TrialCache()
    (cache.folder / "tmp-abc").write_text("{")
    cache.keep("key", outcome(cell("quiet"), GOOD, tmp_path))
    assert cache.clear() == 1
    assert list(cache.folder.iterdir()) == []
