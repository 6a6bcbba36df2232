"""A QEMU that root starts is contained by the kernel; what the kernel says of the process is what counts."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.host import containment as module
from testbed.host.containment import CONTAINED, SWITCH, contained, containment, find_places, hiding, own_user
from testbed.host.packages import find_program

from .conftest import small

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.machine.launch import Machine

    from .conftest import LaunchMachine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give QEMU a user of its own")


def status(machine: Machine) -> dict[str, str]:
    lines = Path(f"/proc/{machine.process.pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def how(machine: Machine) -> str:
    return (machine.rundir / CONTAINED).read_text()


def need_a_user(machine: Machine) -> None:
    """Skip the test where the host does not allow it: in a chroot, or in a container whose root may not mount."""
    if "a user of its own" not in how(machine):
        pytest.skip(how(machine))


async def test_it_has_a_user_of_its_own_and_no_privilege(launched: LaunchMachine) -> None:
    async with launched(small(devices=["virtio-blk"])) as machine:
        need_a_user(machine)
        told = status(machine)
        assert set(told["Uid"].split()) == set(told["Gid"].split()) == {str(own_user())}
        assert {int(told[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert told["NoNewPrivs"] == "1"
        assert told["Seccomp"] == ("2" if machine.qemu.sandbox else "0")


async def test_it_has_no_network_and_a_view_of_its_own(launched: LaunchMachine, tmp_path: Path) -> None:
    async with launched(small(ports=2, devices=["virtio-blk", "virtio-net"])) as machine:
        if "read-only view" not in how(machine):
            pytest.skip(f"this host does not let namespaces be made: {how(machine)}")
        process = Path(f"/proc/{machine.process.pid}")
        assert (process / "ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        assert [line.split(":")[0].strip() for line in (process / "net/dev").read_text().splitlines()[2:]] == ["lo"]
        mounts = [line.split() for line in (process / "mounts").read_text().splitlines()]
        root = next(options for _, place, _, options, *_ in mounts if place == "/")
        assert "ro" in root.split(",")
        # only what it needs is found below a folder that is closed to others
        secret = tmp_path / "secret"
        secret.touch()
        seen = process / "root" / secret.relative_to("/")
        assert seen.exists() is (hiding(secret) is None)
        assert (seen.parent / "run" / "disk1.raw").exists()


async def test_what_it_cannot_reach_is_said_and_it_runs_as_it_did(
    launched: LaunchMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, "off")
    async with launched() as machine:
        assert status(machine)["Uid"].split()[0] == "0"
        assert "TESTBED_CONTAIN=off" in how(machine)


def test_a_root_without_other_users_is_told_so() -> None:
    asked = "from testbed.host.containment import *; print(containment(find_places(['/bin/sh'], folders=[])))"
    alone = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this host does not let user namespaces be made")
    done = subprocess.run([*alone, sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert "this user namespace has no other user" in done.stdout


def test_a_disk_that_others_may_not_write_is_not_taken_from_its_owner(tmp_path: Path) -> None:
    disk = tmp_path / "customer.raw"
    disk.write_bytes(bytes(512))
    node = f'{{"driver": "raw", "file": {{"driver": "file", "filename": "{disk}"}}}}'
    places = find_places(["/bin/sh", "-blockdev", node], folders=[])
    told = containment(places)
    assert told.uid is None
    assert str(disk) in told.why
    assert disk.stat().st_uid == os.geteuid()
    disk.chmod(0o666)
    assert str(disk) not in containment(places).why


def test_an_image_that_is_only_read_need_not_be_writable(tmp_path: Path) -> None:
    code = tmp_path / "code.fd"
    code.write_bytes(bytes(512))
    code.chmod(0o644)
    node = f'{{"driver": "raw", "read-only": true, "file": {{"driver": "file", "filename": "{code}"}}}}'
    places = find_places(["/bin/sh", "-blockdev", node], folders=[])
    assert code in places.read
    assert str(code) not in containment(places).why


async def test_what_a_qemu_puts_into_the_rundir_replaces_nothing(launched: LaunchMachine) -> None:
    async with launched() as machine:
        need_a_user(machine)
        state = machine.rundir.stat()
        assert (state.st_uid, state.st_gid) == (os.geteuid(), own_user())
        assert state.st_mode & 0o1070 == 0o1070
        journal = (machine.rundir / "qmp.jsonl").stat()
        assert journal.st_uid == os.geteuid()
        assert not journal.st_mode & 0o022


@pytest.mark.parametrize("place", ["/mnt", "/srv", "/var/tmp", "/root"])
async def test_a_rundir_may_be_anywhere(launched: LaunchMachine, place: str) -> None:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        async with launched(small(devices=["virtio-blk"]), rundir=Path(folder)) as machine:
            need_a_user(machine)
            assert await machine.qmp.execute("query-status")


@pytest.mark.parametrize("place", ["/mnt", "/srv", "/var/tmp", "/root", "/dev/shm"])
def test_an_image_and_a_disk_may_be_anywhere(place: str) -> None:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        image, disk = Path(folder) / "vmlinux", Path(folder) / "disk.raw"
        image.write_text("image\n")
        image.chmod(0o644)
        disk.touch()
        disk.chmod(0o666)
        node = json.dumps({"driver": "raw", "file": {"driver": "file", "filename": str(disk)}})
        places = find_places(["/bin/sh", "-kernel", str(image), "-blockdev", node], folders=[])
        held = containment(places)
        if not held.alone:
            pytest.skip(f"this host does not let namespaces be made: {held}")
        command = ["sh", "-c", f"id -u >> {disk} && cat {image} >> {disk}; echo no > {image}; echo no > {folder}/new"]
        subprocess.run(contained(command, held, places), capture_output=True, check=False)
        assert disk.read_text() == f"{own_user()}\nimage\n"
        assert image.read_text() == "image\n"
        assert {path.name for path in Path(folder).iterdir()} == {"vmlinux", "disk.raw"}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand a device that opens, but for root only, in for /dev/kvm: /dev/zero under another name."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        node = Path(folder) / "kvm"
        try:
            os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
            node.open("r+b").close()
        except OSError:
            pytest.skip("this host does not let device nodes be made")
        monkeypatch.setattr(module, "KVM", node)
        for asked in (module._can_unshare, module._can_make_node):
            asked.cache_clear()
        yield node
        for asked in (module._can_unshare, module._can_make_node):
            asked.cache_clear()


def opened(device: Path) -> str:
    """Return whether a contained program could open a device for reading and writing, and how it was contained."""
    places = find_places(["/bin/sh", "-accel", "kvm,kernel-irqchip=split"], folders=[])
    held = containment(places)
    command = ["sh", "-c", f": <> {device} && echo opened as $(id -u)"]
    done = subprocess.run(contained(command, held, places), capture_output=True, text=True, check=False)
    return f"{done.stdout.strip()}; {held}"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_it_opens_kvm_whatever_the_modes_are(device: Path, mode: int) -> None:
    device.chmod(0o666)
    if "not permitted to create namespaces" in (words := opened(device)):
        pytest.skip(words)
    os.chown(device, 0, 0 if mode == 0o600 else 108)
    device.chmod(mode)
    words = opened(device)
    assert words.startswith(f"opened as {own_user()};")
    assert "read-only view" in words


def test_kvm_that_it_could_not_open_is_opened_as_root(
    device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "unshare").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_program("unshare") == str(tmp_path / "unshare")
    words = opened(device)
    assert words.startswith("opened as 0;")
    assert f"{device} cannot be opened by other users" in words
    os.chown(device, 0, 108)
    device.chmod(0o660)
    assert opened(device).startswith(f"opened as {own_user()};")


def test_what_variables_and_lists_name_is_needed_too(tmp_path: Path) -> None:
    modules, libraries, more, colon = (tmp_path / name for name in ("modules", "lib", "lib2", "a:b"))
    for folder in (modules, libraries, more, colon):
        folder.mkdir()
    argv = ["/usr/bin/env", f"QEMU_MODULE_DIR={modules}", "--library-path", f"{libraries}:{more}", "-L", str(colon)]
    assert {modules, libraries, more, colon} < find_places(argv, folders=[]).read
