"""Show disk images that are damaged at random: `python -m tests.faults.odd_disks IMAGES [SEED]`, or `make odd-disks`.

Each is made from a good one (partition tables, ext4, xfs, btrfs, LVM, an array, qcow2 and vmdk) by a few accidents
where something is written, most of them where its headers are. Whatever the image says, `testbed image show` has to end
with 0 or 2, in time, without a traceback, a control character or a file outside its own folder, and the image must be
as it was. Exits with 1 if one was not; such an image is kept in `.odd-disks`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.cache import cache_path
from testbed.host.packages import find_program
from testbed.image.disk.reader import LIMIT_SECONDS
from tests.disks import array_members, btrfs, converted, ext4, gpt_disk, mbr_disk, physical_volume, sha256, swap, xfs
from tests.qemu.conftest import processes_naming

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEPT = Path(".odd-disks")
#: wall seconds beyond the guest's own limit
_GRACE = 120
_SECTOR = 512
#: of the sectors that hold anything, those in front: headers, tables, superblocks and descriptors
_HEADERS = 64
_MOST_ACCIDENTS = 8
#: what a name must not do: steer a terminal, end an element of HTML, leave its folder
FILES: Mapping[str, bytes] = {
    "etc/os-release": b'PRETTY_NAME="<b>odd</b> \x1b[31m\x07"\nID=debian\n',
    "etc/fstab": b"LABEL=root / ext4 rw 0 1\n",
    "boot/grub/grub.cfg": b"menuentry '</pre><script>alert(1)</script>' {\nlinux /boot/vmlinuz-6.1 pcie_aspm=off\n}\n",
    "boot/loader/entries/..odd.conf": b"title ../../../etc/passwd\nlinux ../../../../etc/shadow\noptions pci=nomsi\n",
    "boot/vmlinuz-6.1": b"no kernel",
    "boot/vmlinuz-\x1b]0;odd\x07": b"no kernel either",
    "lib/modules/6.1/modules.dep": b"",
}


def main(count: int, seed: int) -> int:
    """Show so many images, or fewer if interrupted; print what became of them and return the exit status."""
    dice = random.Random(seed)
    ends: Counter[str] = Counter()
    found = 0
    with tempfile.TemporaryDirectory(prefix="odd-disks-") as name, suppress(KeyboardInterrupt):
        folder = Path(name)
        seeds = good_disks(folder)
        _link_images(folder / "cache")
        for number in range(count):
            kind = dice.choice(sorted(seeds))
            with _damaged(seeds[kind], folder / "shown", dice) as disk:
                end, problems = show(disk, folder)
                if problems:
                    found += 1
                    KEPT.mkdir(exist_ok=True)
                    kept = shutil.copy(disk, KEPT / f"{seed}-{number}{disk.suffix}")
                    print(f"{kept} ({kind}): {'; '.join(problems)}", flush=True)
            ends[f"{kind}: {end}"] += 1
            if number % 10 == 9:
                print(f"{number + 1} of {count}, {found} with finds", flush=True)
    for end, times in sorted(ends.items()):
        print(f"{times:5} {end}")
    print(f"{ends.total()} images (seed {seed}), {found} with finds")
    return 1 if found else 0


def good_disks(folder: Path) -> dict[str, Path]:
    """Return a good image of each kind that this host can make."""
    root = ext4(folder, FILES)
    disks = {
        "mbr": mbr_disk(folder / "mbr.raw", [root, swap(folder, "swap")]),
        "gpt": gpt_disk(folder / "gpt.raw", [root, root]),
        "lvm": mbr_disk(folder / "lvm.raw", [physical_volume(folder, {"root": root, "var": root})]),
        "array": mbr_disk(folder / "array.raw", array_members(folder, root, level=0)),
    }
    for kind in ("qcow2", "vmdk"):
        disks[kind] = converted(disks["mbr"], kind)
    for kind, make in (("xfs", xfs), ("btrfs", btrfs)):
        if find_program(f"mkfs.{kind}"):
            disks[kind] = mbr_disk(folder / f"{kind}.raw", [make(folder, FILES)])
    return disks


@contextmanager
def _damaged(good: Path, folder: Path, dice: random.Random) -> Iterator[Path]:
    """Yield a copy with a few accidents, alone in a folder."""
    folder.mkdir()
    try:
        disk = folder / good.name
        subprocess.run(["cp", "--sparse=always", good, disk], check=True)
        with disk.open("r+b") as file:
            written = [at for at in range(0, good.stat().st_size, _SECTOR) if any(_sector(file.fileno(), at))]
            for _ in range(dice.randint(1, _MOST_ACCIDENTS)):
                at = dice.choice(written[:_HEADERS] if dice.random() < 0.7 else written) + dice.randrange(_SECTOR)
                file.seek(at)
                file.write(_accident(dice))
        yield disk
    finally:
        shutil.rmtree(folder)


def _sector(descriptor: int, at: int) -> bytes:
    return os.pread(descriptor, _SECTOR, at)


def _accident(dice: random.Random) -> bytes:
    size = dice.choice((1, 1, 2, 4, 8, 64))
    return dice.choice((bytes(size), b"\xff" * size, dice.randbytes(size), b"\x7f" + b"\xff" * (size - 1)))


def show(disk: Path, folder: Path) -> tuple[str, list[str]]:
    """Return how `image show` ended, and what was wrong with it."""
    before = sha256(disk)
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    environment = {"TMPDIR": str(scratch), "TESTBED_CACHE": str(folder / "cache"), "TERM": "dumb"}
    started = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "testbed", "image", "show", f"disk:{disk}", "--json"],
            cwd=disk.parent,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
            capture_output=True,
            check=False,
            timeout=LIMIT_SECONDS + _GRACE,
        )
    except subprocess.TimeoutExpired:
        return "never", [f"it still runs after {time.monotonic() - started:.0f} s"]
    problems = _wrong(done) + _left(disk, scratch)
    if sha256(disk) != before:
        problems.append("the image was written to")
    return {0: "shown", 2: "refused"}.get(done.returncode, f"exit {done.returncode}"), problems


def _wrong(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    problems = []
    if done.returncode not in (0, 2):
        problems.append(f"exit {done.returncode}: {done.stderr[-300:]!r}")
    if b"Traceback" in done.stderr:
        problems.append("a traceback")
    said = (done.stdout + done.stderr).decode(errors="replace")
    if odd := {character for character in said if not character.isprintable() and character != "\n"}:
        problems.append(f"control characters: {odd}")
    if done.returncode == 0:
        try:
            json.loads(done.stdout)
        except ValueError as error:
            problems.append(f"no JSON: {error}")
    return problems


def _left(disk: Path, scratch: Path) -> list[str]:
    """Return what is there that was not."""
    problems = [f"{path} is left" for path in (*scratch.iterdir(), *disk.parent.iterdir()) if path != disk]
    if processes := processes_naming(f"{disk.parent.parent}/"):
        problems.append(f"processes are left: {processes}")
    return problems


def _link_images(cache: Path) -> None:
    """Give a cache the images of the usual one: what is read of odd disks must not take the place of others."""
    cache.mkdir()
    (cache / "images").symlink_to(cache_path("images").absolute())


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()))
