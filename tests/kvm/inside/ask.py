"""Have a module run by the process that holds them imported: `python3 -IS ask.py testbed run …`.

Python takes long to import the test bed under TCG, so that is done once, in `served.py`. What runs there has the
folder, the environment, the user, the privileges and the standard streams of whoever asks.
"""

import json
import os
import socket
import sys

ADDRESS = "/run/served"


def main() -> int:
    """Ask, wait, and return the exit status."""
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(ADDRESS)
    with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123 (pathlib is slow to import there)
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    request = {
        "argv": sys.argv[1:],
        "folder": os.getcwd(),  # noqa: PTH109
        "environment": dict(os.environ),
        "user": int(status["Uid"].split()[0]),
        "group": int(status["Gid"].split()[0]),
        "groups": [int(group) for group in status["Groups"].split()],
        "capabilities": int(status["CapBnd"], 16),
    }
    socket.send_fds(peer, [json.dumps(request).encode()], [0, 1, 2])
    return int(peer.recv(16) or b"255")


sys.exit(main())
