"""The search over elements: right, proven, in few boots, and never lost whatever the oracle answers."""

from __future__ import annotations

import asyncio
import itertools
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.campaign.bisect.result import (
    Answer,
    ElementState,
    EndsAgreeError,
    Goal,
    Question,
    SearchResult,
    SearchTrial,
    Subset,
    majority,
)
from testbed.campaign.bisect.search import search
from testbed.campaign.bisect.sets import bounds, next_cuts
from testbed.model.outcome import Verdict
from tests.benchmarks.searches import delta_debugging, one_by_one

if TYPE_CHECKING:
    from testbed.campaign.bisect.trials import SearchObserver

BAD, GOOD, UNRESOLVED = Answer.BAD, Answer.GOOD, Answer.UNRESOLVED

Truth = Callable[[Subset], Answer]


@dataclass
class Guest:
    """An oracle that answers by a rule, notes what it was asked, and how many asked at once."""

    truth: Truth
    asked: list[Subset] = field(default_factory=list)
    most_at_once: int = 0
    running: int = 0

    async def __call__(self, subset: Subset, attempt: int) -> Answer:
        self.asked.append(subset)
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        return self.truth(subset)


def bad_with(*sets: tuple[int, ...], breaks: Callable[[Subset], bool] = lambda _: False) -> Truth:
    """Return a rule: bad with all of any set, and not resolved where `breaks` says so."""

    def truth(subset: Subset) -> Answer:
        if breaks(subset):
            return UNRESOLVED
        return BAD if any(subset.issuperset(culprits) for culprits in sets) else GOOD

    return truth


def run(
    count: int,
    truth: Truth,
    *,
    goal: Goal = Goal.CULPRIT,
    parallel: int = 1,
    repeat: int = 1,
    observer: SearchObserver | None = None,
) -> SearchResult:
    guest = Guest(truth)
    result = asyncio.run(search(count, guest, goal=goal, parallel=parallel, repeat=repeat, observer=observer))
    assert result.boots == len(guest.asked) == len(result.trials)
    assert guest.most_at_once <= parallel
    assert result.boots / parallel <= result.rounds <= result.boots
    assert [trial.number for trial in result.trials] == list(range(1, result.boots + 1))
    if repeat == 1:
        assert max(Counter(guest.asked).values()) == 1
        assert_proofs_were_made(result)
    return result


def assert_proofs_were_made(result: SearchResult) -> None:
    """Check each claim of a result against its trials, not against the rule."""
    answers = {frozenset(trial.subset): trial.answer for trial in result.trials}
    symptom, absence = (BAD, GOOD) if result.goal is Goal.CULPRIT else (GOOD, BAD)
    for found in result.sets:
        assert found.enough == (answers[frozenset(found.elements)] is symptom)
        for element in found.elements:
            without = answers[frozenset(found.elements) - {element}]
            assert (without is absence) == (element not in found.unsettled)
    if result.remedy is not None:
        assert answers[frozenset(result.remedy)] is absence
    proven = all(found.proven for found in result.sets) and result.remedy is not None
    assert proven == (not result.incomplete) == (not result.candidates)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 24, 64])
@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_a_single_culprit_is_found_wherever_it_is(count: int, parallel: int) -> None:
    for culprit in range(count):
        result = run(count, bad_with((culprit,)), parallel=parallel)
        assert [found.elements for found in result.sets] == [(culprit,)]
        assert result.remedy == tuple(element for element in range(count) if element != culprit)
        assert not result.incomplete
        assert result.states[culprit] is ElementState.CULPRIT
        assert set(result.states) <= {ElementState.CULPRIT, ElementState.CLEARED}


def test_one_of_16_takes_8_boots_at_most_or_6_rounds_in_pairs() -> None:
    alone = [run(16, bad_with((culprit,))) for culprit in range(16)]
    assert max(result.boots for result in alone) == 8
    assert all(result.rounds == result.boots for result in alone)
    paired = [run(16, bad_with((culprit,)), parallel=2) for culprit in range(16)]
    assert max(result.rounds for result in paired) <= 6


def test_two_of_24_take_16_boots_at_most() -> None:
    pairs = list(itertools.combinations(range(24), 2))
    results = [run(24, bad_with(pair)) for pair in pairs]
    assert [result.sets[0].elements for result in results] == pairs
    assert max(result.boots for result in results) == 16


def test_fewer_boots_than_one_by_one_and_delta_debugging() -> None:
    async def boots(count: int, size: int) -> list[int]:
        sums = [0, 0, 0]
        for culprits in itertools.combinations(range(count), size):
            truth = bad_with(culprits)
            counted = [await one_by_one(count, Guest(truth)), await delta_debugging(count, Guest(truth))]
            assert all(found.found == culprits for found in counted)
            mine = await search(count, Guest(truth))
            assert mine.culprits == culprits
            sums = [a + b for a, b in zip(sums, [mine.boots, *(found.boots for found in counted)], strict=True)]
        return sums

    for count, size in ((16, 1), (24, 2), (10, 3)):
        mine, singly, ddmin = asyncio.run(boots(count, size))
        assert mine < singly or count == 10  # with 3 of 10 nothing is gained on taking out each
        assert mine < ddmin


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, list[tuple[int, ...]]]:
    """Draw a number of elements, and disjoint culprit sets among them."""
    count = draw(st.integers(1, 20))
    order = draw(st.permutations(range(count)))
    sets: list[tuple[int, ...]] = []
    while order and len(sets) < draw(st.integers(1, 3)):
        size = draw(st.integers(1, min(4, len(order))))
        sets.append(tuple(sorted(order[:size])))
        order = order[size:]
    return count, sets


@given(cases(), st.integers(1, 4))
def test_every_disjoint_set_is_found_and_proven(case: tuple[int, list[tuple[int, ...]]], parallel: int) -> None:
    count, sets = case
    result = run(count, bad_with(*sets), parallel=parallel)
    assert sorted(found.elements for found in result.sets) == sorted(sets)
    assert all(found.proven for found in result.sets)
    assert result.remedy == tuple(sorted(set(range(count)) - set(result.culprits)))
    assert not result.incomplete
    if parallel == 1:
        bits = (count - 1).bit_length()
        assert result.boots <= 2 + sum(len(found) * bits + 2 * len(found) for found in sets)


@given(cases())
def test_no_cut_is_tried_that_a_good_trial_has_answered(case: tuple[int, list[tuple[int, ...]]]) -> None:
    count, sets = case
    good: list[set[int]] = []
    for trial in run(count, bad_with(*sets)).trials:
        if trial.question is Question.CUT:
            assert not any(set(trial.subset) <= seen for seen in good)
        if trial.answer is GOOD:
            good.append(set(trial.subset))


@given(cases())
def test_a_remedy_is_found_by_the_same_search_mirrored(case: tuple[int, list[tuple[int, ...]]]) -> None:
    count, sets = case
    helps = bad_with(*sets)
    result = run(count, lambda subset: GOOD if helps(subset) is BAD else BAD, goal=Goal.REMEDY)
    straight = run(count, helps)
    assert result.sets == straight.sets
    assert result.boots == straight.boots
    assert {trial.answer for trial in result.trials} == {BAD, GOOD}


def test_sets_that_overlap_are_answered_with_disjoint_ones_that_leave_a_remedy() -> None:
    result = run(8, bad_with((1, 3), (3, 5), (5, 7)))
    assert [found.elements for found in result.sets] == [(1, 3), (5, 7)]
    assert result.remedy == (0, 2, 4, 6)


@pytest.mark.parametrize(
    ("with_all", "with_none", "goal", "hint"),
    [
        (GOOD, GOOD, Goal.CULPRIT, "do not change the verdict"),
        (BAD, BAD, Goal.CULPRIT, "do not change the verdict"),
        (GOOD, BAD, Goal.CULPRIT, "goal 'remedy'"),
        (BAD, GOOD, Goal.REMEDY, "goal 'culprit'"),
        (UNRESOLVED, UNRESOLVED, Goal.CULPRIT, "without them either"),
        (BAD, UNRESOLVED, Goal.CULPRIT, "without them either"),
        (UNRESOLVED, BAD, Goal.CULPRIT, "starting point"),
    ],
)
def test_ends_that_do_not_differ_are_said(with_all: Answer, with_none: Answer, goal: Goal, hint: str) -> None:
    guest = Guest(lambda subset: with_all if subset else with_none)
    with pytest.raises(EndsAgreeError, match=f"among 4 elements: {with_all} with all, {with_none} with none") as caught:
        asyncio.run(search(4, guest, goal=goal))
    assert len(guest.asked) == 2
    assert hint in (caught.value.hint or "")
    assert (caught.value.with_all, caught.value.with_none) == (with_all, with_none)


def test_of_no_elements_the_ends_are_one_trial() -> None:
    guest = Guest(bad_with((0,)))
    with pytest.raises(EndsAgreeError):
        asyncio.run(search(0, guest))
    assert guest.asked == [frozenset()]


# --- trials that do not reach the stimulus


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_boot_breaker_is_set_aside_and_said(parallel: int) -> None:
    for breaker, culprit in itertools.permutations(range(9), 2):
        result = run(9, bad_with((culprit,), breaks=lambda subset, b=breaker: b in subset), parallel=parallel)  # type: ignore[misc]
        assert [(each.found.elements, each.aside) for each in result.breakers] == [((breaker,), (breaker,))]
        assert result.culprits == (culprit,)
        assert result.states[breaker] is ElementState.ASIDE
        assert result.remedy == tuple(sorted(set(range(9)) - {breaker, culprit}))
        assert not result.incomplete


def test_of_elements_that_break_together_one_is_set_aside_and_not_the_culprit() -> None:
    for first, second in itertools.combinations(range(8), 2):
        for culprit in (first, second):
            result = run(8, bad_with((culprit,), breaks={first, second}.issubset))
            assert [each.found.elements for each in result.breakers] == [(first, second)]
            assert result.breakers[0].aside == tuple({first, second} - {culprit})
            assert result.culprits == (culprit,)


def test_several_boot_breakers_are_all_set_aside() -> None:
    result = run(16, bad_with((2, 9), breaks=lambda subset: bool(subset & {4, 11, 15})))
    assert sorted(each.aside for each in result.breakers) == [(4,), (11,), (15,)]
    assert result.culprits == (2, 9)


def test_ends_that_agree_once_the_breaker_is_aside_name_it() -> None:
    guest = Guest(bad_with((3,), breaks=lambda subset: 3 in subset))
    with pytest.raises(EndsAgreeError, match="good with all but the 1 set aside, good with none") as caught:
        asyncio.run(search(8, guest))
    assert caught.value.aside == (3,)


@pytest.mark.parametrize("parallel", [1, 2])
def test_an_element_that_needs_another_leaves_only_a_detour(parallel: int) -> None:
    for needy, needed, culprit in itertools.permutations(range(9), 3):
        result = run(
            9,
            bad_with((culprit,), breaks=lambda subset, a=needy, b=needed: a in subset and b not in subset),  # type: ignore[misc]
            parallel=parallel,
        )
        assert result.culprits == (culprit,)
        assert not result.incomplete


def test_a_detour_costs_little() -> None:
    random, boots = Random(1), []
    for _ in range(200):
        needy, needed, culprit = random.sample(range(24), 3)
        rule = bad_with((culprit,), breaks=lambda subset, a=needy, b=needed: a in subset and b not in subset)  # type: ignore[misc]
        boots.append(run(24, rule).boots)
    assert statistics.mean(boots) < 11.5  # 9 where everything boots; 24 and more to take out each
    assert max(boots) < 36


def test_what_cannot_be_told_apart_is_left_a_candidate() -> None:
    # 3 is the culprit and needs 5 to boot: whether 5 has a part in it, no trial can say
    result = run(8, bad_with((3,), breaks=lambda subset: 3 in subset and 5 not in subset))
    assert [found.elements for found in result.sets] == [(3, 5)]
    assert result.sets[0].unsettled == (5,)
    assert not result.sets[0].proven
    assert result.candidates == (5,)
    assert "1 of the members" in result.incomplete
    assert (result.states[3], result.states[5]) == (ElementState.CULPRIT, ElementState.SUSPECT)
    assert result.remedy == (0, 1, 2, 4, 6, 7)


def test_a_rest_that_does_not_boot_leaves_the_remedy_open() -> None:
    # 6 boots only with 2, and 2 is the culprit
    result = run(8, bad_with((2,), breaks=lambda subset: 6 in subset and 2 not in subset))
    assert result.culprits == (2,)
    assert result.sets[0].proven
    assert result.remedy is None
    assert result.candidates == (0, 1, 3, 4, 5, 6, 7)
    assert "no remedy is proven" in result.incomplete
    assert set(result.states) == {ElementState.CULPRIT, ElementState.UNKNOWN}


@given(cases(), st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=3), st.integers(1, 2))
def test_with_unresolved_regions_nothing_false_is_claimed(
    case: tuple[int, list[tuple[int, ...]]], needs: list[tuple[int, int]], parallel: int
) -> None:
    count, sets = case

    def breaks(subset: Subset) -> bool:
        return any(a in subset and b not in subset for a, b in needs if b < count)

    result = run(count, bad_with(*sets, breaks=breaks), parallel=parallel)
    assert not result.breakers
    for found in result.sets:
        assert found.enough
        assert any(set(found.elements) >= set(culprits) for culprits in sets)
        if found.proven:
            assert found.elements in sets


# --- oracles that keep no rule


@st.composite
def rules(draw: st.DrawFn) -> Truth:
    """Draw a rule that answers each subset by chance, the same every time."""
    random = draw(st.randoms(use_true_random=False))
    answers: dict[Subset, Answer] = {}
    return lambda subset: answers.setdefault(subset, random.choice([BAD, GOOD, GOOD, UNRESOLVED]))


@given(st.integers(1, 12), rules(), st.integers(1, 3), st.sampled_from(Goal))
def test_any_answers_end_in_proofs_or_in_what_is_open(count: int, truth: Truth, parallel: int, goal: Goal) -> None:
    try:
        result = run(count, truth, parallel=parallel, goal=goal)
    except EndsAgreeError:
        return
    assert result.boots <= 4 * count * count + 16
    assert len(set(result.culprits)) == len(result.culprits)
    assert all(found.enough for found in result.sets)


@given(st.integers(2, 14), st.data())
def test_a_symptom_that_other_elements_hide_is_still_proven(count: int, data: st.DataObject) -> None:
    culprit = data.draw(st.integers(0, count - 1))
    hides = data.draw(st.sets(st.integers(0, count - 1)).filter(lambda hiding: culprit not in hiding))
    unhides = data.draw(st.integers(0, count - 1).filter(lambda element: element not in hides))

    def truth(subset: Subset) -> Answer:
        return BAD if culprit in subset and (unhides in subset or not subset & hides) else GOOD

    result = run(count, truth)
    assert result.culprits == (culprit,)
    assert not result.incomplete


# --- repeats


def test_the_majority_of_answers_counts() -> None:
    assert majority([BAD]) is BAD
    assert majority([BAD, GOOD, BAD]) is BAD
    assert majority([BAD, GOOD]) is UNRESOLVED
    assert majority([BAD, GOOD, UNRESOLVED]) is UNRESOLVED


def test_ends_and_proofs_are_repeated_and_the_rest_is_not() -> None:
    result = run(16, bad_with((5,)), repeat=3)
    attempts = Counter(trial.subset for trial in result.trials)
    only, rest = (5,), tuple(sorted(set(range(16)) - {5}))
    edges = tuple(range(5)), tuple(range(6))
    assert {attempts[subset] for subset in (tuple(range(16)), (), only, rest, *edges)} == {3}
    assert set(attempts.values()) == {1, 3}
    assert not result.disagreements


def _flaky(truth: Truth, wrong: Callable[[int], bool]) -> Truth:
    numbers = itertools.count(1)
    return lambda subset: {BAD: GOOD, GOOD: BAD}[truth(subset)] if wrong(next(numbers)) else truth(subset)


def test_a_wrong_answer_among_three_is_outvoted_and_reported() -> None:
    for wrong in range(1, 30):
        result = run(16, _flaky(bad_with((5,)), lambda number, w=wrong: number == w), repeat=3)  # type: ignore[misc]
        assert result.culprits == (5,)
        assert not result.incomplete
        for disagreement in result.disagreements:
            assert str(disagreement) in {"bad in 2 of 3, good in 1 of 3", "good in 2 of 3, bad in 1 of 3"}
        if wrong <= 6:  # the ends
            assert len(result.disagreements) == 1


def test_ends_that_stay_undecided_are_called_flaky() -> None:
    guest = Guest(_flaky(bad_with((5,)), lambda number: number == 1))
    with pytest.raises(EndsAgreeError) as caught:
        asyncio.run(search(16, guest, repeat=2))
    assert caught.value.hint is not None
    assert "flaky (good in 1 of 2, bad in 1 of 2)" in caught.value.hint
    assert len(guest.asked) == 4


@given(cases(), st.randoms(use_true_random=False), st.integers(1, 5), st.integers(1, 2))
def test_a_flaky_guest_never_hangs_the_search(
    case: tuple[int, list[tuple[int, ...]]], random: Random, repeat: int, parallel: int
) -> None:
    count, sets = case
    truth = _flaky(bad_with(*sets), lambda _: random.random() < 0.2)
    try:
        result = asyncio.run(search(count, Guest(truth), repeat=repeat, parallel=parallel))
    except EndsAgreeError:
        return
    assert max(Counter(trial.subset for trial in result.trials).values()) <= repeat
    said = {subset: majority([t.answer for t in result.trials if t.subset == subset]) for subset in _subsets(result)}
    assert all(said[found.elements] is BAD for found in result.sets)
    assert result.remedy is None or said[result.remedy] is GOOD


def _subsets(result: SearchResult) -> set[tuple[int, ...]]:
    return {trial.subset for trial in result.trials}


# --- what others see of a search


@dataclass
class Audience:
    """An observer that keeps what it hears."""

    started: list[tuple[Subset, Question]] = field(default_factory=list)
    trials: list[SearchTrial] = field(default_factory=list)
    seen: list[tuple[ElementState, ...]] = field(default_factory=list)

    def asking(self, subset: Subset, question: Question) -> None:
        self.started.append((subset, question))

    def answered(self, trial: SearchTrial) -> None:
        self.trials.append(trial)

    def states(self, states: tuple[ElementState, ...]) -> None:
        self.seen.append(states)


def test_the_observer_hears_of_each_trial_and_sees_the_suspects_shrink() -> None:
    audience = Audience()
    result = run(16, bad_with((5,)), observer=audience)
    assert tuple(audience.trials) == result.trials
    assert audience.started == [(frozenset(trial.subset), trial.question) for trial in result.trials]
    suspects = [states.count(ElementState.SUSPECT) for states in audience.seen]
    assert suspects == [16, 8, 4, 2, 1, 0]
    assert audience.seen[0].count(ElementState.CLEARED) == 0
    assert audience.seen[-1] == result.states


def test_trials_say_what_they_were_for() -> None:
    questions = [trial.question for trial in run(16, bad_with((5,))).trials]
    assert questions == [
        Question.ALL,
        Question.NONE,
        *[Question.CUT] * 4,
        Question.ONLY,
        Question.REST,
    ]


def test_rounds_number_what_ran_together() -> None:
    result = run(16, bad_with((5,)), parallel=2)
    assert max(Counter(trial.round for trial in result.trials).values()) == 2
    assert {trial.round for trial in result.trials} == set(range(1, result.rounds + 1))
    assert [trial.question for trial in result.trials if trial.round == 1] == [Question.ALL, Question.NONE]
    last = [trial.question for trial in result.trials if trial.round == result.rounds]
    assert last == [Question.ONLY, Question.REST]


def test_an_error_of_the_oracle_comes_out_as_it_is() -> None:
    async def ask(subset: Subset, attempt: int) -> Answer:
        await asyncio.sleep(0)
        raise LookupError(attempt)

    with pytest.raises(LookupError):
        asyncio.run(search(4, ask, parallel=2))


def test_the_oracle_is_told_which_attempt_it_is() -> None:
    attempts: dict[Subset, list[int]] = {}

    async def ask(subset: Subset, attempt: int) -> Answer:
        attempts.setdefault(subset, []).append(attempt)
        return bad_with((1,))(subset)

    asyncio.run(search(4, ask, repeat=2))
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in attempts.values())
    assert attempts[frozenset()] == [1, 2]


@pytest.mark.parametrize(
    ("verdict", "answer"),
    [
        (Verdict.BAD, BAD),
        (Verdict.GOOD, GOOD),
        (Verdict.SKIP, UNRESOLVED),
        (Verdict.BROKEN, UNRESOLVED),
    ],
)
def test_a_verdict_is_an_answer_only_when_the_stimulus_was_reached(verdict: Verdict, answer: Answer) -> None:
    assert Answer.of(verdict) is answer


# --- where to cut next


@pytest.mark.parametrize(
    ("answers", "count", "cuts"),
    [
        ({16: BAD}, 1, [8]),
        ({16: BAD}, 2, [5, 10]),
        ({16: BAD}, 3, [4, 8, 12]),
        ({16: BAD, 8: GOOD}, 1, [12]),
        ({16: BAD, 8: BAD, 4: GOOD}, 1, [6]),
        ({2: BAD}, 2, [1]),
        ({1: BAD}, 2, []),
        ({16: BAD, 8: UNRESOLVED}, 1, [4]),
        ({16: BAD, 8: UNRESOLVED, 4: UNRESOLVED}, 1, [12]),
        ({3: BAD, 1: UNRESOLVED, 2: UNRESOLVED}, 2, []),
        ({4: BAD, 2: UNRESOLVED}, 2, [1, 3]),
    ],
)
def test_cuts_split_the_widest_gap_and_go_round_what_is_unresolved(
    answers: dict[int, Answer], count: int, cuts: list[int]
) -> None:
    assert next_cuts(answers, count=count) == cuts


def test_bounds_are_the_lowest_bad_cut_and_the_highest_good_one_below_it() -> None:
    assert bounds({16: BAD}) == (0, 16)
    assert bounds({16: BAD, 4: GOOD, 8: BAD, 12: GOOD, 6: UNRESOLVED}) == (4, 8)
