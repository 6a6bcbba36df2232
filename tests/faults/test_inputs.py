"""Whatever is read: no error but the project's own, and time that grows with the size of the input, not faster."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.all_targets import TARGETS
from tests.faults.mutations import GROWING, mutated
from tests.faults.targets import MATRIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.target import Target

#: bytes; what is linear takes four times as long for the larger, what is quadratic sixteen
SMALL, LARGE = 4 << 10, 16 << 10
_TOO_SHORT_TO_TELL = 0.03
_RATIO = 9.0

#: those that the YAML reader makes slow, as it does a case
YAML_TOO = ("matrix", "recipe", "steps")

#: what fuzzing found, cut to the part that mattered
FOUND = [
    ("kernel-log", b"0000:00:02.0: AER:   TLP Header: 0000000000000001 00000002 00000003"),
    ("matrix", b"axes: x"),
    ("matrix", MATRIX.replace("hotplug: native}]}]", "hotplug: null}]}]").encode()),
    ("matrix", MATRIX.replace("hotplug: native}]\n", "hotplug: 1.5}]\n").encode()),
    ("kernel", b"\x7fELF\2\1" + bytes(12) + b"\x3e" + bytes(13) + b"\x40" + bytes(21) + b"\x38\0\1" + bytes(70)),
    ("setup", b"./" + b"a" * 300),
    ("timeline", b'{"wall_seconds": 1, "kernel_log": {"guest_seconds": 1}}'),
    ("timeline", b'{"wall_seconds": 1, "kernel_log": {"first": 1, "last": 1000000000000, "guest_seconds": 1}}'),
    ("console-frames", b"1:0:999999999:%s~\n" % (b"0" * 64)),
    ("console-frames", b"0:%s:1\n:\n" % (b"9" * 400)),
    ("task", b"1 (init) S 0 1 x 0 -1 4194560 1 2 3 4 5 6 7 8 20"),
    ("task", b"%s (init) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20" % (b"1" * 5000)),
    ("guest-files", b"9" * 5000),
    ("kernel-words", b"task a:%s blocked on a mutex likely owned by task b:1" % (b"1" * 5000)),
    ("load", b"done=1.5 last=1.2.3"),
    ("probe", b"first"),
    *((name, b"[" * 100_000) for name in ("matrix", "outcome", "timeline")),
]


@pytest.mark.parametrize(("name", "data"), FOUND, ids=[f"{name}-{number}" for number, (name, _) in enumerate(FOUND)])
def test_what_was_found_once_is_mended(name: str, data: bytes) -> None:
    TARGETS[name].take(data)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_right_is_read(name: str) -> None:
    for seed in TARGETS[name].seeds():
        TARGETS[name].take(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_wrong_is_no_traceback(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.deferred(lambda: mutated(seeds)))
    def check(data: bytes) -> None:
        target.take(data)

    check()


def spent(target: Target, data: bytes) -> float:
    """Return the CPU seconds a reader takes."""
    before = time.process_time()
    target.take(data)
    return time.process_time() - before


def too_slow(target: Target, grown: Callable[[int], bytes]) -> str:
    """Return the times of a reader that takes ever longer for a byte, twice in a row; nothing for any other."""
    told = ""
    for _ in range(2):
        large = spent(target, grown(LARGE))
        if large <= _TOO_SHORT_TO_TELL or large <= _RATIO * (small := spent(target, grown(SMALL))):
            return ""
        told = f"{large:.2f} s for {LARGE} bytes, {small:.2f} s for {SMALL}"
    return told


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.extended] if name in YAML_TOO else []) for name in TARGETS]
)
def test_time_grows_with_the_size(name: str) -> None:
    target = TARGETS[name]
    seeds = {"seed": lambda size: (seed := b"".join(target.seeds())) * (size // max(1, len(seed)) or 1)}
    slow = {kind: told for kind, grown in (GROWING | seeds).items() if (told := too_slow(target, grown))}
    assert not slow, slow
