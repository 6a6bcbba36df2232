"""A channel that nobody reads is read into a log, as far as that may grow; one that may wait is left alone."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from testbed.machine import unread
from testbed.machine.template import load_template
from testbed.machine.unread import channel_log, logged_channels, logging
from testbed.model.spec import Device, MachineSpec

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_only_a_port_that_can_wait_is_left_to_its_reader() -> None:
    spec = MachineSpec(
        machine_type="q35",
        channels=["relay", "debug", "nobodys"],
        devices=[
            Device(driver="virtio-serial-pci", id="serial"),
            Device(driver="virtserialport", id="port", bus="serial.0", properties={"chardev": "relay"}),
            Device(driver="isa-debugcon", id="con", properties={"chardev": "debug"}),
        ],
    )
    assert logged_channels(spec) == ["debug", "nobodys"]


def test_a_host_reads_the_channels_of_its_machines_itself() -> None:
    spec = load_template("level1").spec({})
    assert spec.channels
    assert logged_channels(spec) == []


async def test_whoever_writes_more_than_is_kept_is_not_held_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread, "_MOST", 1 << 20)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        async with logging({"debug": ours}, tmp_path):
            async with asyncio.timeout(30):
                await asyncio.get_running_loop().sock_sendall(theirs, b"firmware " + bytes(4 << 20))
            theirs.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0)
        kept = channel_log(tmp_path, "debug").read_bytes()
    assert kept.startswith(b"firmware ")
    assert 1 << 20 < len(kept) < (1 << 20) + 100
    assert kept.endswith(b"[only the first 1 MiB are kept]\n")
