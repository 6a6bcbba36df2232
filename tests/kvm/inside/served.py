"""The test bed, imported once in the nested host: each request (see `ask.py`) is run by a child of its own.

A child becomes the user who asks, with no more privileges, and then what `python3 -m MODULE …` would be.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from testbed.host.qemu import find_qemu
from testbed.machine.snapshot_store import program_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS = Path("/run/served")
#: the longest request: an environment and a command line
_REQUEST = 1 << 18
_PACKAGES = ("testbed.cli", "testbed.campaign", "testbed.scenarios")
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_CAPSET_VERSION = 0x20080522  #: _LINUX_CAPABILITY_VERSION_3


def modules() -> Iterator[str]:
    """Yield the names of the modules that commands import."""
    yield "testbed.doctor"
    for package in map(importlib.import_module, _PACKAGES):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield found.name


def ask_qemu() -> None:
    """Ask QEMU, and keep in this process, what each command asks it first; the answers are the same for every user."""
    qemu = find_qemu()
    for driver in ("virtio-blk-pci", "ICH9-LPC"):
        qemu.properties(driver)
    program_hashes(qemu.path, qemu.command)


def serve() -> dict[str, Any]:
    """Serve for good; return a request in the process that is to run it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(ADDRESS))
        ADDRESS.chmod(0o666)
        listener.listen()
        sys.stdout.write("served\n")
        sys.stdout.flush()
        while True:
            peer, _ = listener.accept()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if os.fork() == 0:
                listener.close()
                return _taken(peer)
            peer.close()


def _taken(peer: socket.socket) -> dict[str, Any]:
    """Return the request in a child, and tell the peer how that ended."""
    data, streams, _, _ = socket.recv_fds(peer, _REQUEST, 3)
    child = os.fork()
    if child == 0:
        peer.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        request: dict[str, Any] = json.loads(data)
        return request
    for stream in streams:
        os.close(stream)
    _, status = os.waitpid(child, 0)
    peer.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def become(request: dict[str, Any]) -> None:
    """Take folder, environment, user and privileges of whoever asked."""
    os.setsid()
    # one CPU runs the bed and its guests: whoever is handed a character must not take it from the guest that printed it
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    _drop(request["capabilities"])
    os.setgroups(request["groups"])
    os.setresgid(*[request["group"]] * 3)
    os.setresuid(*[request["user"]] * 3)
    os.chdir(request["folder"])


def _drop(kept: int) -> None:
    """Drop every capability that is not in a mask, from the bounding set too."""
    libc = ctypes.CDLL(None, use_errno=True)
    capability = 0
    while libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        if not kept >> capability & 1 and libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), f"dropping capability {capability}")
        capability += 1
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = (ctypes.c_uint32 * 2)(_CAPSET_VERSION, 0)
    # effective, permitted and inheritable, each in two halves
    if libc.capset(header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)):
        raise OSError(ctypes.get_errno(), "capset")


def run(module: str, *arguments: str) -> NoReturn:
    """Run a module as `python3 -m` does."""
    sys.argv = [module, *arguments]
    sys.path[0] = ""
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit(0)


def main() -> NoReturn:
    """Import, serve, and in a child run."""
    for name in modules():
        # an extra may be missing
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    ask_qemu()
    # what is imported stays as it is: children share its memory
    gc.freeze()
    request = serve()
    become(request)
    run(*request["argv"])


if __name__ == "__main__":
    main()
