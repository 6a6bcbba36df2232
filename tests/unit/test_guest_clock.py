"""The guest's clock: exact at its ticks, never running back, and real time beyond them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.model.guest_clock import GuestClock, Tick

SECONDS = st.floats(0, 1e6, allow_nan=False)
TICKS = st.lists(st.builds(Tick, wall=SECONDS, guest=SECONDS), min_size=1, max_size=20)


def test_between_two_ticks_it_is_a_straight_line() -> None:
    clock = GuestClock([Tick(wall=10, guest=100), Tick(wall=20, guest=400)])
    assert clock.guest(15) == 250
    assert clock.wall(130) == 11


@pytest.mark.parametrize(("wall", "guest"), [(8, 98), (22, 402)])
def test_beyond_the_ticks_the_guest_lives_in_real_time(wall: float, guest: float) -> None:
    clock = GuestClock([Tick(wall=20, guest=400), Tick(wall=10, guest=100)])
    assert clock.guest(wall) == guest
    assert clock.wall(guest) == wall


def test_a_guest_that_stood_still_has_the_end_of_its_pause() -> None:
    clock = GuestClock([Tick(wall=1, guest=5), Tick(wall=4, guest=5), Tick(wall=5, guest=6)])
    assert clock.guest(3) == 5
    assert clock.wall(5) == 4


@given(TICKS, st.lists(SECONDS, min_size=2, max_size=10))
def test_neither_clock_runs_back(ticks: list[Tick], moments: list[float]) -> None:
    clock = GuestClock(ticks)
    for read in (clock.guest, clock.wall):
        values = [read(moment) for moment in sorted(moments)]
        assert all(after >= before - 1e-6 for before, after in pairwise(values))
