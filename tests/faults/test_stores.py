"""What is kept on the disk is used only if it is what was written: after a kill, a flipped bit, a rival, an upgrade."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.campaign.matrix.results import RESULTS, Results
from testbed.host.accel import Accel
from testbed.host.qemu import find_qemu
from testbed.image import key as image_key_module
from testbed.image import store as image_store
from testbed.image.build import Built
from testbed.image.store import ensure_image, find_image
from testbed.machine import snapshot_store
from testbed.machine.snapshot_store import CONSOLE, KERNEL_RECORDS, RECORD, STATE, SnapshotStore, snapshot_key
from testbed.model.json_reader import parse_json, sealed, unsealed
from testbed.model.matrix import MatrixRow, MatrixRun
from testbed.model.outcome import Cell
from testbed.model.spec import MachineSpec
from tests.faults.dying import killed_at_byte, killed_at_step
from tests.unit.bisect_bed import BAD, outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from testbed.image.recipe import Recipe
    from testbed.image.source import Progress

KEY = "ab" * 32
#: larger than what Python buffers
_BIG = 30_000


@dataclass(frozen=True, kw_only=True)
class Store:
    """A store as these tests see it: texts are kept and found."""

    folder: Path
    keep: Callable[[str], object]
    #: the text if there is one that may be used
    find: Callable[[], str | None]
    #: what was written into the folder
    files: Callable[[], list[Path]]


def _snapshots(folder: Path) -> Store:
    def keep(text: str) -> None:
        store = SnapshotStore()
        with store.draft() as draft:
            for name in (STATE, KERNEL_RECORDS, CONSOLE):
                (draft / name).write_text(text)
            store.keep(draft, KEY, {"hello": {"release": text}})

    def find() -> str | None:
        found = SnapshotStore().find(KEY)
        if found is None:
            return None
        try:
            with found.pinned() as snapshot:
                record = snapshot.check()
                texts = {(snapshot.folder / name).read_text() for name in (STATE, KERNEL_RECORDS, CONSOLE)}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):  # the cell boots fresh
            return None
        (text,) = {record["hello"]["release"], *texts}
        return str(text)

    place = folder / "snapshots"
    return Store(folder=place, keep=keep, find=find, files=lambda: [*place.glob(f"{KEY}/*")])


def _images(folder: Path) -> Store:
    def keep(text: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("testbed.image.build.build_members", partial(_build, text))
            ensure_image("debian", progress=lambda _: None, refresh=True)

    def find() -> str | None:
        image = find_image("debian")
        if image is None:
            return None
        try:
            (text,) = {image.initramfs.read_text(), image.kernel_file.read_text(), image.package}
        except FileNotFoundError:  # a newer one has taken its place since: a QEMU would not start
            return None
        return text

    place = folder / "images"
    return Store(folder=place, keep=keep, find=find, files=lambda: [*place.glob("*/current/*")])


def _build(text: str, recipe: Recipe, folder: Path, scratch: Path, progress: Progress) -> Built:
    (folder / "bzimage").write_text(text)
    (folder / "initramfs").write_text(text)
    return Built(kernel="6.1", package=text, modules=recipe.modules, absent=())


STORES = {"snapshots": _snapshots, "images": _images}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path))
    monkeypatch.delenv("TESTBED_SNAPSHOTS", raising=False)
    monkeypatch.setattr("testbed.image.build.build_members", _build)
    monkeypatch.setattr(image_store, "image_key", lambda *_: "key")
    return STORES[request.param](tmp_path)


def left_over(store: Store) -> list[Path]:
    return [path for path in store.folder.rglob("tmp-*") if path.exists()]


OLD, NEW = "old" * _BIG, "new" * _BIG


def test_a_writer_killed_at_any_step_leaves_the_old_the_new_or_nothing(store: Store) -> None:
    step = 0
    while True:
        store.keep(OLD)
        assert store.find() == OLD
        step += 1
        killed = killed_at_step(step, lambda: store.keep(NEW))
        assert store.find() in (OLD, NEW, None), f"step {step}"
        if not killed:
            break
    assert step > 4
    assert store.find() == NEW
    assert left_over(store) == []


def test_a_writer_killed_at_any_byte_leaves_the_old_the_new_or_nothing(store: Store) -> None:
    store.keep(OLD)
    sizes = range(1, 2 * len(NEW), 9973)
    killed = []
    for size in sizes:
        killed.append(killed_at_byte(size, lambda: store.keep(NEW)))
        assert store.find() in (OLD, NEW, None), f"byte {size}"
    assert killed[0]
    assert not killed[-1]
    store.keep(NEW)
    assert store.find() == NEW
    assert left_over(store) == []


def test_a_flipped_bit_is_found_wherever_it_is(store: Store) -> None:
    store.keep(OLD)
    files = store.files()
    assert files

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(file=st.integers(0, len(files) - 1), share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def check(file: int, share: float, bit: int) -> None:
        path = files[file]
        content = path.read_bytes()
        at = int(len(content) * share)
        try:
            path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
            assert store.find() in (OLD, None)
            if path.name not in (RECORD, image_store.RECORD) and path.suffix != ".json":
                assert store.find() is None
        finally:
            path.write_bytes(content)
        assert store.find() == OLD

    check()


@pytest.mark.parametrize(
    "record", ["{}", "[]", "null", '{"format": 1}', "\0", "[" * 9999, '{"format": 99, "crc32": 1}']
)
def test_a_record_of_another_version_counts_as_none_and_is_written_anew(store: Store, record: str) -> None:
    store.keep(OLD)
    (path,) = [path for path in store.files() if path.suffix == ".json"]
    path.write_text(record)
    assert store.find() is None
    store.keep(NEW)
    assert store.find() == NEW


def test_a_sealed_record_of_another_format_counts_as_none_and_is_written_anew(store: Store) -> None:
    store.keep(OLD)
    (path,) = [path for path in store.files() if path.suffix == ".json"]
    record = unsealed(parse_json(path.read_bytes()))
    path.write_text(json.dumps(sealed({**record, "format": record["format"] + 1})))
    assert store.find() is None
    store.keep(NEW)
    assert store.find() == NEW


def test_what_an_unsealed_version_wrote_counts_as_none(store: Store) -> None:
    store.keep(OLD)
    (path,) = [path for path in store.files() if path.suffix == ".json"]
    value = json.loads(path.read_text())
    del value["crc32"]
    path.write_text(json.dumps(value))
    assert store.find() is None


def test_versions_with_other_formats_use_one_cache_and_each_finds_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path))
    monkeypatch.delenv("TESTBED_SNAPSHOTS", raising=False)
    monkeypatch.setattr(snapshot_store, "program_hashes", lambda *_: [])
    spec = MachineSpec.model_validate({"machine_type": "q35"})
    snapshots, images, built = SnapshotStore(), _images(tmp_path), []
    for _ in range(2):
        for version in (1, 2):
            for module in (image_key_module, image_store, snapshot_store):
                monkeypatch.setattr(module, "FORMAT", version)
            key = str(snapshot_key([], spec=spec, qemu=find_qemu(), accel=Accel(name="tcg", reason=""), state=[]))
            if images.find() is None:
                built.append(version)
                images.keep(f"image {version}")
                with snapshots.draft() as draft:
                    snapshots.keep(draft, key, {})
            assert images.find() == f"image {version}"
            found = snapshots.find(key)
            assert found
            assert found.record["format"] == version
    assert built == [1, 2]


def test_writers_side_by_side_never_mix(store: Store) -> None:
    """Let three processes write different texts for a while; whoever looks finds one of them whole, or none."""
    texts = [letter * _BIG for letter in "abc"]
    end = time.monotonic() + 1.0
    children = []
    for text in texts:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                while time.monotonic() < end:
                    try:
                        store.keep(text)
                    except OSError:  # another one was faster; the guest is not saved
                        assert store.folder.name == "snapshots"
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    found = set()
    while time.monotonic() < end:
        found.add(store.find())
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    assert found <= {None, *texts}
    store.keep(NEW)
    assert store.find() == NEW
    assert left_over(store) == []


def test_a_damaged_line_of_results_runs_again_and_the_others_do_not(tmp_path: Path) -> None:
    rows = [
        MatrixRun(
            index=n,
            row=MatrixRow(axes={"machine": "q35"}),
            outcome=outcome(Cell(scenario="x", machine="q35"), BAD, tmp_path),
        )
        for n in range(3)
    ]
    with Results(tmp_path) as results:
        for row in rows:
            results.add(row)
    path = tmp_path / RESULTS
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second.replace(b'"verdict": "bad"', b'"verdict": "bae"') + third)
    with Results(tmp_path) as results:
        assert [index in results for index in range(3)] == [True, False, True]
        results.add(rows[1])
        assert list(results.runs()) == rows
