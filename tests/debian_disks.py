"""Disks with a whole Debian on them, made from the archive that apt is configured with, and kept by what was wanted.

Made without being root: mmdebstrap chooses how, and the file system is made where it has put the tree.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.host.apt_sources import running_codename, stanzas_for
from testbed.host.cache import cache_folder
from testbed.host.packages import find_program
from testbed.host.tools import run_tool
from testbed.model.errors import BedError
from tests.disks import mbr_disk

if TYPE_CHECKING:
    from collections.abc import Callable

#: raise it whenever the same wishes would give another disk
FORMAT = 1
_PACKAGES = ("systemd-sysv", "udev", "kmod", "cron", "dbus", "linux-image-amd64")
LEFT_OUT = (
    *(f"/usr/share/{folder}/*" for folder in ("doc", "man", "locale", "info")),
    *(
        f"/lib/modules/*/kernel/{folder}/*"
        for folder in ("sound", "drivers/gpu", "drivers/media", "drivers/net/wireless")
    ),
    *(f"/usr/lib/modules/*/kernel/{folder}/*" for folder in ("sound", "drivers/gpu", "drivers/media")),
)
#: what the report was about
CRONTAB = "*/2 * * * * root echo 1 > /sys/bus/pci/rescan\n"
_CONFIGURE = """\
echo 'LABEL=root / ext4 rw 0 1' > "$1/etc/fstab"
echo customer > "$1/etc/hostname"
"""


def debian_disk(suite: str = "", *, crontab: str = "") -> Path:
    """Return a disk of a Debian, made if need be: a minute or two, and the network; skip the test without them."""
    for program in ("mmdebstrap", "mkfs.ext4"):
        if find_program(program) is None:
            pytest.skip(f"this host has no {program}")
    suite = suite or running_codename()
    sources = "\n".join(stanzas_for(suite if suite != running_codename() else None))
    wishes = json.dumps([FORMAT, suite, _PACKAGES, LEFT_OUT, sources, crontab, _CONFIGURE])
    return kept_disk(suite, wishes, lambda scratch: _make(scratch, suite, sources, crontab))


def kept_disk(suite: str, wishes: str, make: Callable[[Path], None]) -> Path:
    """Return the disk of these wishes, made as `disk.raw` in a folder if need be; skip the test if it cannot be."""
    folder = cache_folder("test-disks") / hashlib.sha256(wishes.encode()).hexdigest()[:16]
    disk = folder / f"{suite}.raw"
    if not disk.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            try:
                make(Path(scratch))
            except BedError as error:
                pytest.skip(f"no Debian {suite}: {error}")
            folder.mkdir(exist_ok=True)
            shutil.move(Path(scratch) / "disk.raw", disk)
    return disk


def _make(scratch: Path, suite: str, sources: str, crontab: str) -> None:
    (scratch / "apt.sources").write_text(sources)
    (scratch / "crontab").write_text(crontab)
    system, tree = scratch / "root.fs", scratch / "tree"
    with system.open("wb") as file:
        file.truncate(1 << 30)
    hooks = [
        _CONFIGURE,
        f'cat "{scratch}/crontab" >> "$1/etc/crontab"',
        # without what is mounted there meanwhile
        f'cp -ax "$1" "{tree}" && mkfs.ext4 -q -L root -d "{tree}" "{system}" && rm -rf "{tree}"',
    ]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=null", f"--include={','.join(_PACKAGES)}"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    command += [f"--customize-hook={hook}" for hook in hooks]
    run_tool(
        [*command, suite, "-", str(scratch / "apt.sources")], doing=f"making a Debian {suite}", env={"INITRD": "No"}
    )
    mbr_disk(scratch / "disk.raw", [system])
