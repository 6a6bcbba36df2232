"""A QMP peer that says what no QEMU says, in the place of a QEMU that a machine is launched with."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from testbed.host.qemu import find_qemu

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.host.qemu import Qemu

GREETING = '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}'

#: connects to all sockets of its command line, greets, takes the capabilities, and answers the next command by SAYING
_BODY = """\
import json, re, socket, sys, time
paths = [re.search(r"path=([^,]+)", word)[1] for word in sys.argv if word.startswith("socket,")]
peers = [socket.socket(socket.AF_UNIX) for _ in paths]
for peer, path in zip(peers, paths):
    peer.connect(path)
talk = peers[0].makefile("rwb")
def say(text):
    talk.write(text)
    talk.flush()
say(GREETING + b"\\r\\n")
talk.read1(65536)  # the capabilities; qemu.qmp numbers and ends only what comes later
say(b'{"return": {}}\\r\\n')
command = json.loads(talk.read1(65536))
try:
    exec(SAYING)
except OSError:  # the bed has had enough
    pass
time.sleep(600)
"""


def peer(folder: Path, saying: str) -> Qemu:
    """Return a QEMU that can be asked what it can do, and when launched is a Python script.

    It answers the first command with `saying`, Python that may use `say`, `command`, `peers` and `sys`.
    """
    real = find_qemu()
    script = folder / "odd-qemu.py"
    body = _BODY.replace("GREETING", repr(GREETING.encode())).replace("SAYING", repr(saying))
    script.write_text(body)
    program = folder / "odd-qemu"
    asked = f'case "$*" in *"-M none"*|*-version*|*"-L help"*) exec {real.path} "$@";; esac'
    program.write_text(f'#!/bin/sh\n{asked}\nexec {sys.executable} {script} "$@"\n')
    program.chmod(0o755)
    script.chmod(0o755)
    return find_qemu(str(program))
