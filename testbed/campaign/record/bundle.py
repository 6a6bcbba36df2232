"""Bundle: one archive of a cell for a bug report; its reproduce.sh needs QEMU and socat, and nothing of the test bed.

reproduce.sh        starts the same machine and repeats what was done
image/              kernel and initramfs, unless the disk's own loader boots
firmware/           that of QEMU, where it was a fetched one
uefi/               code and first variables of the machine's UEFI firmware, if it had one
versions.json       kernel, QEMU, firmware and host
report.html         verdict, findings and timeline
logs/               the rundir, without its disks
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed import __version__
from testbed.host.packages import read_os_release
from testbed.machine.launch import ARGV
from testbed.machine.launch import FIRMWARE as UEFI_RECORD
from testbed.machine.reproduce import FILE as SCRIPT
from testbed.machine.reproduce import INITRAMFS, KERNEL
from testbed.machine.script_command import FIRMWARE, UEFI_CODE, UEFI_VARIABLES
from testbed.machine.snapshot_store import FIRMWARE_SUFFIXES, program_hashes
from testbed.machine.system_disk import NODE
from testbed.model.errors import InputError
from testbed.model.json_reader import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from testbed.model.outcome import Outcome

SUFFIX = ".tar.gz"
_LEVEL = 6
_README = """\
{id}
{verdict}: {reason}

./reproduce.sh starts the same machine and {repeats}; it needs QEMU and socat.
QEMU=/path/to/qemu-system-x86_64 ./reproduce.sh uses another QEMU than {qemu}.

report.html has the findings with their evidence, logs/ the logs behind it, versions.json the versions it ran with.
"""


@dataclass(frozen=True, kw_only=True)
class _Started:
    """How QEMU was started, as argv.json has it."""

    command: tuple[str, ...]  #: the words before any options of the machine
    options: tuple[str, ...]
    uefi: dict[str, Path]  #: the files of a UEFI firmware, by their places in the bundle

    @property
    def firmware(self) -> tuple[Path, ...]:
        """Return the folders of a fetched QEMU's firmware; none if it was an installed one."""
        return tuple(Path(folder) for word, folder in zip(self.command, self.command[1:], strict=False) if word == "-L")

    @property
    def qemu(self) -> Path:
        """Return the binary."""
        return Path(self.command[: self.command.index("-L")][-1] if "-L" in self.command else self.command[-1])

    @property
    def image(self) -> dict[str, Path]:
        """Return kernel and initramfs by their places in the bundle; none if the disk's own loader boots."""
        places = {"-kernel": KERNEL, "-initrd": INITRAMFS}
        pairs = zip(self.options, self.options[1:], strict=False)
        return {places[option]: Path(file) for option, file in pairs if option in places}

    def disks(self, rundir: Path) -> list[Path]:
        """Return the user's own disks, which no bundle has."""
        files = [Path(node["file"]["filename"]) for node in self._nodes() if "filename" in node.get("file", {})]
        return [file for file in files if file.parent != rundir and file not in self.uefi.values()]

    @property
    def has_system(self) -> bool:
        """Return whether a customer's disk is the system's, which no bundle has either."""
        return any(node.get("node-name") == NODE for node in self._nodes())

    def _nodes(self) -> list[dict[str, Any]]:
        pairs = zip(self.options, self.options[1:], strict=False)
        return [parse_json(word) for option, word in pairs if option == "-blockdev"]


def write_bundle(outcome: Outcome, file: Path, *, report: str, warn: Callable[[str], None]) -> None:
    """Write the bundle of a cell; `report` is its HTML page, `warn` hears what the bundle cannot have.

    Raises InputError if the rundir lacks what a bundle needs, or the archive cannot be written.
    """
    if not file.name.endswith((SUFFIX, ".tgz")):
        raise InputError(f"bundle {file}: a bundle is a {SUFFIX} file", hint=f"-o {file.name.split('.')[0]}{SUFFIX}")
    rundir = Path(outcome.rundir)
    started = _started(rundir, outcome)
    for disk in started.disks(rundir):
        warn(f"disk {disk} is not packed: reproduce.sh will look for it there")
    if started.has_system:
        warn(f"{outcome.image} is not packed: reproduce.sh will look for it there, or where SYSTEM= says")
    name = file.name.removesuffix(".tgz").removesuffix(SUFFIX)
    draft = file.with_name(file.name + ".part")
    try:
        with tarfile.open(draft, "w:gz", compresslevel=_LEVEL) as archive:
            _fill(archive, name, outcome, started, report)
        draft.replace(file)
    except OSError as error:
        raise InputError(f"bundle {file}: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)


def _started(rundir: Path, outcome: Outcome) -> _Started:
    missing = [name for name in (ARGV, SCRIPT) if not (rundir / name).is_file()]
    if missing:
        cause = f"no machine ran ({outcome.verdict}: {outcome.reason})"
        raise InputError(
            f"bundle of {rundir}: {' and '.join(missing)} missing: {cause}",
            hint="bundle a cell whose machine was started",
        )
    argv = parse_json((rundir / ARGV).read_text(encoding="utf-8"))
    options = argv.index("-name")
    started = _Started(command=tuple(argv[:options]), options=tuple(argv[options:]), uefi=_uefi(rundir))
    for file in started.uefi.values():
        if not file.is_file():
            raise InputError(
                f"bundle of {rundir}: {file} is not there: the firmware was removed", hint="run the cell again"
            )
    for file in started.image.values():
        if not file.is_file():
            raise InputError(
                f"bundle of {rundir}: {file} is not there: its image was rebuilt or removed", hint="run the cell again"
            )
    return started


def _uefi(rundir: Path) -> dict[str, Path]:
    """Return the files of the machine's UEFI firmware, if it had one."""
    if not (rundir / UEFI_RECORD).is_file():
        return {}
    record = parse_json((rundir / UEFI_RECORD).read_text(encoding="utf-8"))
    return {UEFI_CODE: Path(record["code"]), UEFI_VARIABLES: Path(record["variables"])}


def _fill(archive: tarfile.TarFile, name: str, outcome: Outcome, started: _Started, report: str) -> None:
    rundir = Path(outcome.rundir)
    repeats = "repeats what was done to it" if started.image else "says what was done to it, on its console and by QMP"
    readme = _README.format(
        id=outcome.id, verdict=outcome.verdict, reason=outcome.reason, qemu=outcome.qemu, repeats=repeats
    )
    _add_text(archive, f"{name}/README.txt", readme)
    _add_text(archive, f"{name}/versions.json", json.dumps(_versions(outcome, started), indent=1) + "\n")
    _add_text(archive, f"{name}/report.html", report)
    _add_file(archive, f"{name}/{SCRIPT}", rundir / SCRIPT, mode=0o755)
    for path in _firmware(started.firmware):
        _add_file(archive, f"{name}/{FIRMWARE}/{path.name}", path)
    for place, path in {**started.image, **started.uefi}.items():
        _add_file(archive, f"{name}/{place}", path)
    for path in sorted(rundir.iterdir()):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".log", ".yaml"):
            _add_file(archive, f"{name}/logs/{path.name}", path)


def _versions(outcome: Outcome, started: _Started) -> dict[str, Any]:
    host = platform.uname()
    return {
        "testbed": __version__,
        "cell": outcome.id,
        "kernel": outcome.kernel,
        "image": outcome.image,
        "qemu": outcome.qemu,
        # of the binary and of each firmware file it may load; none if that QEMU is gone
        "sha256": program_hashes(started.qemu, started.command) if started.qemu.is_file() else [],
        "files": {place: _sha256(path) for place, path in {**started.image, **started.uefi}.items()},
        "accelerator": outcome.accel,
        "host": f"{read_os_release().get('PRETTY_NAME', host.system)}, {host.release} {host.machine}",
    }


def _firmware(folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the firmware files, each name once: QEMU takes the first folder that has it."""
    files = (file for folder in folders for file in sorted(folder.glob("*")) if file.suffix in FIRMWARE_SUFFIXES)
    yield from {file.name: file for file in reversed(list(files)) if file.is_file()}.values()


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode("utf-8", "replace")
    archive.addfile(_entry(name, len(data), time.time()), io.BytesIO(data))


def _add_file(archive: tarfile.TarFile, name: str, path: Path, *, mode: int = 0o644) -> None:
    status = path.stat()
    with path.open("rb") as file:
        archive.addfile(_entry(name, status.st_size, status.st_mtime, mode=mode), file)


def _entry(name: str, size: int, changed: float, *, mode: int = 0o644) -> tarfile.TarInfo:
    """Return an archive member that names no user of this host."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, mode, changed
    return entry


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
