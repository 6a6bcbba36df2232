"""What a guest or a file may make of the host is bounded, and told."""

from __future__ import annotations

import asyncio
import io
import socket
import subprocess
import sys
import tarfile
import time
from typing import TYPE_CHECKING

import pytest

from testbed.actions.inventory import interrupt_sources
from testbed.guest import shell as shell_room
from testbed.guest.console.login import WORDS
from testbed.guest.frames import Frame
from testbed.guest.lock_owner import named_owner
from testbed.machine.console import Console
from testbed.machine.journal import Journal
from testbed.machine.qmp import Qmp
from testbed.machine.watch import Watch
from testbed.model.boot_stage import STAGES, STOPS
from testbed.model.errors import BrokenError, GuestCrashedError
from testbed.model.kernel_log import parse_record
from tests.faults.memory_use import growth
from tests.faults.targets import DeafShell, bare_machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def test_a_full_disk_of_the_host_ends_every_wait_as_broken(tmp_path: Path) -> None:
    data = {"device": "", "node-name": "disk1", "operation": "write", "action": "stop", "nospace": True, "reason": "x"}
    watch = Watch()
    with Journal(tmp_path) as journal:
        qmp = Qmp(journal, watch)
        waiting = asyncio.ensure_future(watch.during(asyncio.Event().wait()))
        await asyncio.sleep(0)
        qmp.deliver({"event": "BLOCK_IO_ERROR", "data": {**data, "nospace": False}})
        await asyncio.sleep(0)
        assert not waiting.done()
        qmp.deliver({"event": "BLOCK_IO_ERROR", "data": data})
        with pytest.raises(BrokenError, match=r"no space is left on the host for disk disk1 \(qmp.jsonl:2\)"):
            await waiting


async def test_a_command_that_prints_without_end_is_broken_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell_room, "MAX_OUTPUT", 1 << 20)
    with Journal(tmp_path) as journal:
        async with DeafShell(bare_machine(tmp_path, Watch(), journal)) as shell:
            command = await shell.start("cat /dev/zero")
            for _ in range(1000):
                shell.give(Frame(type="O", id=1, payload=bytes(4096)))
            with pytest.raises(BrokenError, match="cat /dev/zero: it printed more than 1 MiB"):
                await command.wait()


async def test_what_ended_commands_printed_is_not_kept(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        async with DeafShell(bare_machine(tmp_path, Watch(), journal)) as shell, growth() as grown:
            for number in range(1, 31):
                command = await shell.start("cat large")
                for _ in range(1024):
                    shell.give(Frame(type="O", id=number, payload=b"x" * 4096))
                shell.give(Frame(type="X", id=number, payload=b"exit 0"))
                assert len((await command.wait()).stdout) == 4 << 20
    assert grown.kib < 60 << 10


async def test_a_line_of_half_a_megabyte_is_looked_through_at_once_and_hides_no_panic() -> None:
    watch = Watch()
    before = time.process_time()
    watch.read_line("INFO: task " * 50_000, evidence="console.log:1")
    assert time.process_time() - before < 1  # 20 s and more if the whole of it is searched
    watch.read_line("INFO: task " * 50_000 + "Kernel panic - not syncing: x", evidence="console.log:2")
    with pytest.raises(GuestCrashedError, match="Kernel panic"):
        await watch.during(asyncio.Event().wait())


@pytest.mark.parametrize("words", ["a", "Welcome to ", "error: ", "XFS ("])
async def test_a_console_without_an_end_of_line_is_searched_once_and_hides_no_prompt(
    tmp_path: Path, words: str
) -> None:
    patterns = [*STAGES.values(), *(stop.pattern for stop in STOPS), *WORDS]
    size, count = 1000, 300
    piece = (words * size)[:size].encode()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        async with Console(ours, tmp_path, Watch()) as console:
            waiting = asyncio.create_task(console.expect_first([*patterns, "(?P<end>the end)"]))
            before = time.process_time()
            for _ in range(count):
                theirs.sendall(piece)
                await asyncio.sleep(0.002)
            theirs.sendall(b"the ")
            await asyncio.sleep(0.05)
            theirs.sendall(b"end")
            seen = await waiting
            spent = time.process_time() - before
    assert (seen.match["end"], seen.start) == ("the end", size * count)
    assert spent < 3  # minutes to hours if it is searched again with every piece, or from every character to the end


@pytest.mark.parametrize(
    "take",
    [
        lambda text: interrupt_sources(f"0:{' ' * len(text)}"),
        lambda text: named_owner(1, [record] if (record := parse_record(f"6,1,1,-;{text}", line=1)) else []),
    ],
    ids=["interrupts", "owner"],
)
def test_a_line_made_for_it_is_searched_at_once(take: Callable[[str], object]) -> None:
    before = time.process_time()
    take(("task a:0 ablocked on an" * 3000)[: 64 << 10])
    assert time.process_time() - before < 1  # 40 s and more if every way to read it is tried


def test_a_tar_file_cannot_name_a_folder_outside_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("x")
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("../../victim", str(victim)):
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
            record = tarfile.TarInfo(f"{name}/snapshot.json")
            record.size = 2
            archive.addfile(record, io.BytesIO(b"{}"))
    command = [sys.executable, "-m", "testbed", "cache", "import", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not a saved guest" in done.stderr
    assert (victim / "precious").read_text() == "x"
