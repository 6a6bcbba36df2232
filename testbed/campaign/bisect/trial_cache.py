"""The trial cache: outcomes of trials that were made, below the cache folder, addressed by all they depend on.

    KEY.json      the outcome of a good or bad trial, as it is in its rundir, with a checksum

KEY is a sha256 over the cell, its rendered machine, the content of every file that takes part (QEMU and its firmware,
image, scenario, the test bed itself) and the attempt. A file is sealed, written beside its place and renamed into it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import inspect
import json
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.campaign.own_source import own_source
from testbed.host.cache import cache_folder
from testbed.host.draft import DRAFT, sweep_drafts
from testbed.machine.snapshot_store import program_hashes
from testbed.model.json_reader import parse_json
from testbed.model.outcome import Outcome, Verdict
from testbed.model.seal import sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.campaign.trial_run import Prepared
    from testbed.model.spec import Disk
    from testbed.scenarios.scenario import Scenario

#: changes when what is kept changes its meaning
FORMAT = 2
#: of a cell, what says nothing about how it is run
_NOT_RUN = {"expected", "role"}


class TrialCache:
    """The outcomes kept in one folder: `trials` in the cache."""

    def __init__(self) -> None:
        self.folder = cache_folder("trials")

    def find(self, key: str) -> Outcome | None:
        """Return the outcome of this key; one that is damaged or of another version counts as none."""
        with contextlib.suppress(OSError, ValueError):
            return Outcome.model_validate(unsealed(parse_json((self.folder / f"{key}.json").read_bytes())))
        return None

    def keep(self, key: str, outcome: Outcome) -> None:
        """Keep an outcome that is a judgement; what was broken or skipped may be otherwise the next time.

        One that cannot be written is not kept: the next bisect asks again.
        """
        if outcome.verdict not in (Verdict.GOOD, Verdict.BAD):
            return
        text = json.dumps(sealed(outcome.model_dump(mode="json", by_alias=True)))
        with contextlib.suppress(OSError):
            sweep_drafts(self.folder)
            self._write(key, text)

    def _write(self, key: str, text: str) -> None:
        with tempfile.NamedTemporaryFile("w", prefix=DRAFT, dir=self.folder, delete=False) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                file.write(text)
                file.flush()
                Path(file.name).replace(self.folder / f"{key}.json")
            except OSError:
                Path(file.name).unlink(missing_ok=True)
                raise

    def files(self) -> list[Path]:
        """Return the file of every outcome."""
        return sorted(self.folder.glob("*.json"))

    def clear(self) -> int:
        """Remove every outcome, and what a killed process left half written; return how many outcomes it were."""
        files = self.files()
        for path in (*files, *self.folder.glob(f"{DRAFT}*")):
            path.unlink(missing_ok=True)
        return len(files)


def trial_key(prepared: Prepared, attempt: int) -> str:
    """Return the key of one attempt at a prepared cell."""
    cell, qemu, accel = prepared.cell, prepared.qemu, prepared.accel
    parts: list[Any] = [
        FORMAT,
        cell.model_dump(mode="json", exclude=_NOT_RUN),
        prepared.machine,
        prepared.template.path.read_text(),
        [_disk_state(disk) for disk in prepared.spec.disks],
        program_hashes(qemu.path, qemu.command),
        [accel.name, accel.cpu(prepared.spec.cpu)],
        [platform.release(), platform.processor()] if accel.name == "kvm" else [],
        [prepared.image.id, prepared.image.boot],
        _scenario_text(prepared.scenario),
        own_source(),
        attempt,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _disk_state(disk: Disk) -> Sequence[int]:
    """Return what tells that a disk image of the user's was changed; a disk made for the run is empty."""
    if disk.path is None:
        return [disk.size_mib]
    with contextlib.suppress(OSError):
        state = Path(disk.path).stat()
        return [state.st_size, state.st_mtime_ns]
    return []


def _scenario_text(scenario: Scenario) -> str:
    """Return the file that defines a scenario; a shipped one's is part of the test bed's own source too."""
    path = inspect.getsourcefile(scenario.run)
    return Path(path).read_text() if path else ""
