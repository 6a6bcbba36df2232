"""Which run comes next, so that runs that share a start share a boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from testbed.campaign.execution.job_queue import BOOT_SECONDS, Job, JobQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

starts = st.lists(st.tuples(st.sampled_from([None, "a", "b", "c"]), st.floats(0.1, 40.0)), max_size=30)


def jobs(rows: Sequence[tuple[str | None, float]]) -> list[Job]:
    return [Job(index=index, seconds=seconds, start=start) for index, (start, seconds) in enumerate(rows)]


def test_the_followers_of_a_start_wait_until_its_guest_is_saved() -> None:
    queue = JobQueue(jobs([("a", 5.0), ("a", 3.0)]))
    leader = queue.take()
    assert leader is not None
    assert leader.index == 0
    assert queue.take() is None
    queue.opened(leader)
    follower = queue.take()
    assert follower is not None
    assert follower.index == 1


def test_a_group_that_is_open_goes_before_another_boot() -> None:
    queue = JobQueue(jobs([("a", 1.0), ("b", 9.0), ("a", 1.0), ("a", 1.0)]))
    first = queue.take()
    assert first is not None
    assert first.start == "b", "the longest group first"
    second = queue.take()
    assert second is not None
    assert second.start == "a"
    queue.opened(second)
    assert [job.start for job in (queue.take(), queue.take()) if job] == ["a", "a"]


def test_runs_whose_guest_is_saved_need_no_boot() -> None:
    queue = JobQueue(jobs([("a", 5.0), ("a", 3.0), ("b", 1.0)]), saved={"a"})
    assert queue.boots == 1
    assert [job.index for job in (queue.take(), queue.take(), queue.take()) if job] == [0, 1, 2]


def test_a_leader_that_never_came_up_has_a_successor() -> None:
    queue = JobQueue(jobs([("a", 2.0), ("a", 1.0)]))
    leader = queue.take()
    assert leader is not None
    queue.finished(leader)
    successor = queue.take()
    assert successor is not None
    assert successor.index == 1


def test_runs_that_share_no_start_all_run_at_once() -> None:
    queue = JobQueue(jobs([(None, 1.0), (None, 3.0), (None, 2.0)]))
    assert [job.index for job in (queue.take(), queue.take(), queue.take()) if job] == [1, 2, 0]


def test_an_idle_place_boots_the_same_guest_again_only_where_that_saves_time() -> None:
    long, short = BOOT_SECONDS + 1, BOOT_SECONDS / 4
    queue = JobQueue(jobs([("a", long), ("a", long), ("a", short)]))
    here = queue.take("here")
    assert here is not None
    queue.opened(here, "here")
    there = queue.take("there")
    assert there is not None
    queue.opened(there, "there")
    assert queue.take("elsewhere") is None, "what is left is shorter than a boot"
    assert queue.take("here") is not None


def test_a_place_that_is_lost_gives_its_runs_back_and_its_guests_are_gone() -> None:
    queue = JobQueue(jobs([("a", 1.0), ("a", 1.0)]))
    leader = queue.take("gone")
    assert leader is not None
    queue.opened(leader, "gone")
    queue.lost("gone", [leader])
    assert queue.left == 2
    again = queue.take("here")
    assert again is leader
    assert queue.take("here") is None, "it boots again: the other waits"


def test_what_does_not_fit_a_place_is_left_for_others() -> None:
    queue = JobQueue(jobs([("a", 9.0), ("b", 1.0)]))
    chosen = queue.take("small", fits=lambda job: job.start == "b")
    assert chosen is not None
    assert chosen.start == "b"
    assert queue.take("small", fits=lambda job: job.start == "b") is None
    assert queue.left == 1


@given(starts, st.lists(st.sampled_from(["take", "open", "finish", "lose"]), max_size=200), st.data())
def test_every_run_is_handed_out_until_it_is_finished_and_never_twice_at_once(
    rows: list[tuple[str | None, float]], steps: list[str], data: st.DataObject
) -> None:
    places = ("one", "two")
    queue = JobQueue(jobs(rows))
    running: dict[str, list[Job]] = {place: [] for place in places}
    finished: list[int] = []
    for step in (*steps, *["take", "open", "finish"] * 4 * (len(rows) + 1)):
        place = data.draw(st.sampled_from(places)) if len(rows) < 6 else places[len(finished) % 2]
        if step == "take":
            if job := queue.take(place):
                running[place].append(job)
        elif step == "open" and running[place]:
            queue.opened(running[place][0], place)
        elif step == "finish" and running[place]:
            job = running[place].pop(0)
            queue.finished(job, place)
            finished.append(job.index)
        elif step == "lose" and len(finished) < len(rows):
            queue.lost(place, running[place])
            running[place] = []
        held = [job.index for jobs_of in running.values() for job in jobs_of]
        assert len(held) == len(set(held))
        assert not set(held) & set(finished)
        assert queue.left == len(rows) - len(held) - len(finished)
    for place in places:
        while running[place] or (job := queue.take(place)):
            if not running[place]:
                assert job
                running[place].append(job)
            queue.opened(running[place][0], place)
            done = running[place].pop(0)
            queue.finished(done, place)
            finished.append(done.index)
    assert sorted(finished) == list(range(len(rows)))
