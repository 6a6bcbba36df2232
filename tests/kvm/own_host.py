"""This host's own KVM, for root: the lane's root file system in namespaces of its own, one level less than nested."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.guest.shell import Result
from testbed.host.tools import run_tool
from tests.kvm.archives import bed, python_of, root_file_system, site_folder
from tests.kvm.kvm_host import HOMES, PATIENCE, PEOPLE, ROOT, User, device_script, words_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

#: what makes a host of the folder $1; its /dev is its own, so that the lane's changes are not this host's
_SET_UP = f"""
set -e
top=$1
mount --bind $top $top
mount -t proc none $top/proc
mount -t sysfs none $top/sys
mount -t tmpfs -o mode=755 none $top/dev
for node in null:3 zero:5 full:7 random:8 urandom:9; do
  mknod -m 666 $top/dev/${{node%:*}} c 1 ${{node#*:}}
done
mkdir $top/dev/shm $top/dev/pts
mount -t tmpfs none $top/dev/shm
mount -t devpts -o newinstance,ptmxmode=666 none $top/dev/pts
ln -s pts/ptmx $top/dev/ptmx
ln -s /proc/self/fd $top/dev/fd
mount -t tmpfs -o mode=1777 none $top/tmp
{PEOPLE}
cd $top
mount --move . /
exec chroot . sh -c 'echo ready; exec sleep infinity'
"""
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")


@dataclass(frozen=True, kw_only=True)
class OwnHost:
    """A root file system on this host's kernel; implements `KvmHost`."""

    process: int  #: one that lives in its namespaces

    async def run(self, command: str, *, user: User = ROOT) -> Result:
        """Run a shell command in the user's home."""
        return await self._run(words_of(user, command, ask="python3 -m"), command)

    async def set_device(self, mode: str, group: int, *, number: tuple[int, int] = (10, 232)) -> None:
        """Give /dev/kvm a mode and a group, or put another device in its place."""
        script = device_script("", mode, group, number)
        done = await self._run(["sh", "-c", script], script)
        assert done.status == 0, done.error

    async def _run(self, words: Sequence[str], command: str) -> Result:
        started = time.monotonic()
        enter = ("nsenter", f"--target={self.process}", "--mount", "--pid", "--", "sh", "-c", 'cd / && exec "$@"', "sh")
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *enter, *words, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        stdout, stderr = await asyncio.wait_for(child.communicate(), PATIENCE)
        return Result(
            command=command,
            status=await child.wait(),
            stdout=stdout,
            stderr=stderr,
            started=started,
            ended=time.monotonic(),
            evidence="",
        )


@contextlib.asynccontextmanager
async def own_host(folder: Path) -> AsyncIterator[OwnHost]:
    """Unpack the archives into a folder, make a host of it and yield that; every process of it ends with this."""
    root, top = root_file_system(), folder / "root"
    for archive in (root, bed(site_folder(python_of(root)), HOMES)):
        run_tool(["unsquashfs", "-quiet", "-no-progress", "-force", "-dest", top, archive], doing="unpacking the host")
    top.chmod(0o755)
    holder = await asyncio.create_subprocess_exec(
        *_NAMESPACES, "sh", "-c", _SET_UP, "sh", str(top), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        said = await asyncio.wait_for(holder.stdout.readline(), PATIENCE)
        assert said == b"ready\n", f"the host was not made: {said!r}"
        yield OwnHost(process=_child(holder.pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            holder.kill()
        await holder.wait()


def _child(pid: int) -> int:
    """Return the one child of a process."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return int(child)
