"""A host with KVM as the lane sees it: where a command of some user's runs, with a /dev/kvm that can be changed."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from testbed.guest.shell import Result

#: wall seconds a command may take: a case has many cells
PATIENCE = 3600.0
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH": "/bed:/bed/site",
    "LANG": "C.UTF-8",
    "COLUMNS": "200",
}

#: messages of a level-2 kernel cost an exit at both levels for each character
QUIET = "-p memory=256 --cmdline quiet"

#: gives the root file system at $top its people; udev brings the group kvm elsewhere
PEOPLE = """
echo 127.0.0.1 localhost > $top/etc/hosts
echo kvm:x:108: >> $top/etc/group
for user in member:1001 stranger:1002; do
  name=${user%:*}; id=${user#*:}
  echo "$name:x:$id:$id::/home/$name:/bin/sh" >> $top/etc/passwd
  echo "$name:x:$id:" >> $top/etc/group
done
"""
#: folders of the archive, and whose they are
HOMES = {"root": 0, "home/member": 1001, "home/stranger": 1002}


@dataclass(frozen=True, kw_only=True)
class User:
    """Who runs a command there."""

    name: str
    home: str
    drop: tuple[str, ...] = ()  #: what setpriv takes away


ROOT = User(name="root", home="/root")
#: root of many a container: it may neither mount nor unshare
CONFINED = User(name="root", home="/root", drop=("--bounding-set=-sys_admin", "--inh-caps=-sys_admin"))
#: in the group that owns /dev/kvm
MEMBER = User(name="member", home="/home/member", drop=("--reuid=1001", "--regid=1001", "--groups=108"))
STRANGER = User(name="stranger", home="/home/stranger", drop=("--reuid=1002", "--regid=1002", "--clear-groups"))


class KvmHost(Protocol):
    """Where the lane's commands run."""

    async def run(self, command: str, *, user: User = ROOT) -> Result:
        """Run a shell command in the user's home; `testbed` is the test bed, and `ask` runs a Python module."""

    async def set_device(self, mode: str, group: int, *, number: tuple[int, int] = (10, 232)) -> None:
        """Give /dev/kvm a mode and a group, or put another device in its place."""


def words_of(user: User, command: str, *, ask: str) -> list[str]:
    """Return the words that run a shell command as a user; `ask` is the command that runs a Python module."""
    variables = environment(user)
    script = f'ask() {{ {ask} "$@"; }}; testbed() {{ ask testbed "$@"; }}; cd {shlex.quote(user.home)} && {command}'
    words = ["/usr/bin/env", "-i", *variables, "sh", "-c", script]
    return ["/usr/bin/setpriv", *user.drop, "--", *words] if user.drop else words


def environment(user: User) -> list[str]:
    """Return a user's environment as the words of `env`."""
    return [f"{name}={value}" for name, value in {**_ENVIRONMENT, "HOME": user.home, "USER": user.name}.items()]


def device_script(top: str, mode: str, group: int, number: tuple[int, int]) -> str:
    """Return the shell command that makes /dev/kvm below a folder."""
    made = f"mknod -m {mode} {top}/dev/kvm c {number[0]} {number[1]}"
    return f"rm -f {top}/dev/kvm && {made} && chown 0:{group} {top}/dev/kvm"


async def run_cell(host: KvmHost, arguments: str, user: User = ROOT) -> dict[str, Any]:
    """Run one cell there and return its outcome."""
    done = await host.run(f"testbed run {arguments} --json report.json", user=user)
    report = await host.run("cat report.json", user=user)
    assert report.status == 0, done.text + done.error
    cell: dict[str, Any]
    (cell,) = json.loads(report.text)["cells"]
    return cell
