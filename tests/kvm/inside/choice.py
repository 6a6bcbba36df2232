"""Print which accelerator would be taken, and run nothing: `python3 -m tests.kvm.inside.choice auto`."""

from __future__ import annotations

import sys

from testbed.host.accel import choose_accel
from testbed.host.qemu import find_qemu
from testbed.model.errors import BedError

try:
    print(choose_accel(sys.argv[1], find_qemu()))  # noqa: T201
except BedError as error:
    print(error.message, "|", error.hint)  # noqa: T201
