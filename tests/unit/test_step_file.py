"""Files of steps: what can be written, and every mistake told with its file and line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from testbed.model.errors import InputError
from testbed.scenarios.scenario import all_scenarios, find_scenario, is_scenario_file
from testbed.steps.condition import AnswerSays, EventCame, PathIsThere, RegisterIs
from testbed.steps.file import StepFile, load_steps
from testbed.steps.step import Expect, Line, Repeat, Wait

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "question: Is it so?\nsteps:\n"
GOOD = HEAD + "  - stimulus: unplug dev1\n  - expect: deleted\n"


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def told(folder: Path, text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        load_steps(written(folder, text))
    return caught.value


def steps_of(folder: Path, text: str, **values: Any) -> tuple[Any, ...]:
    file = load_steps(written(folder, text))
    defaults = {name: option.default for name, option in file.options.items()}
    return file.steps({**defaults, **values})


def test_every_kind_of_step_is_read(tmp_path: Path) -> None:
    text = HEAD + (
        "  - sh lsblk\n"
        "  - do: plug virtio-blk on rp1\n    fails: in use\n"
        "  - wait: 2.5\n"
        "  - wait: {host: 1}\n"
        "  - repeat: 3\n    steps:\n      - sh true\n"
        "  - stimulus: unplug dev1\n"
        "  - wait: {event: DEVICE_DELETED device=dev1, within: 8}\n"
        "  - expect: ^status 0$\n"
        "  - expect-not: {path: /sys/block/vda/size, holds: '^32768$'}\n"
        "  - expect: {register: rp1 CAP_EXP+1a.w, is: 0x40, mask: 0x40}\n"
    )
    sh, refused, wait, host, repeat, stimulus, event, answer, path, register = steps_of(tmp_path, text)
    assert (sh.text, sh.stimulus, sh.fails) == ("sh lsblk", False, None)
    assert refused.fails.pattern == "in use"
    assert (wait.seconds, wait.of_host, wait.condition) == (2.5, False, None)
    assert (host.seconds, host.of_host) == (1, True)
    assert isinstance(repeat, Repeat)
    assert (repeat.count, len(repeat.steps)) == (3, 1)
    assert stimulus.stimulus
    assert event.condition == EventCame(name="DEVICE_DELETED", data={"device": "dev1"})
    assert event.seconds == 8
    assert isinstance(answer.condition, AnswerSays)
    assert isinstance(path.condition, PathIsThere)
    assert not path.wanted
    assert register.condition == RegisterIs(device="rp1", register="CAP_EXP+1a.w", value=0x40, mask=0x40)
    assert [each.where for each in (sh, refused, register)] == ["mine.yaml:3", "mine.yaml:4", "mine.yaml:15"]


@pytest.mark.parametrize(
    ("steps", "line", "words"),
    [
        ("  - unplug dev1\n  - expect: x\n", 3, "no step is the stimulus"),
        ("  - stimulus: unplug dev1\n  - stimulus: unplug dev2\n  - expect: x\n", 4, "second stimulus"),
        ("  - stimulus: unplug dev1\n", 3, "nothing is expected after the stimulus"),
        ("  - expect: x\n  - stimulus: unplug dev1\n  - wait: 3\n", 4, "nothing is expected after the stimulus"),
        ("  - unplg dev1\n", 3, "'unplg' is neither a verb nor a QMP command"),
        ("  - stimulus: plug\n", 3, "plug: got 'nothing'"),
        ("  - quit\n", 3, "quit"),
        ("  - 5\n", 3, "got int 5"),
        ("  -\n", 3, "got NoneType None"),
        ("  - sh: lspci\n", 3, "step 'sh' does not exist"),
        ("  - expect: {evnt: RESET}\n", 3, "condition 'evnt' does not exist"),
        ("  - expect: {event: RESET, log: x}\n", 3, "got event and log"),
        ("  - expect: {path: /x, mask: 1}\n", 3, "mask does not go with path"),
        ("  - expect: {event: RESET, within: 3}\n", 3, "within goes with wait"),
        ("  - {wait: 3, fails: x}\n", 3, "fails does not go with wait"),
        ("  - {wait: 3, expect: x}\n", 3, "got wait and expect"),
        ("  - wait: {event: RESET, within: 3, host: 3}\n", 3, "wanted one of them"),
        ("  - wait: -1\n", 3, "got -1"),
        ("  - wait: soon\n", 3, "got str 'soon'"),
        ("  - wait: .nan\n", 3, "got nan"),
        ("  - expect: '('\n", 3, "is not a regular expression"),
        ("  - expect: ''\n", 3, "wanted a pattern"),
        ("  - expect: {path: /x, holds: 0x1af4}\n", 3, "got int 6900, wanted a pattern"),
        ("  - expect: {event: device_deleted}\n", 3, "wanted EVENT"),
        ("  - expect: {event: RESET guest}\n", 3, "wanted EVENT"),
        ("  - expect: {path: vda}\n", 3, "wanted a path"),
        ("  - expect: {register: rp1, is: 1}\n", 3, "wanted DEVICE REGISTER"),
        ("  - expect: {register: rp1 COMMAND}\n", 3, "lacks the value to compare with"),
        ("  - expect: {register: rp1 COMMAND; rm, is: 1}\n", 3, "wanted DEVICE REGISTER"),
        ("  - expect: {register: rp1 COMMAND, is: 3, mask: 1}\n", 3, "can never match"),
        ("  - repeat: 0\n    steps: [sh true]\n", 3, "from 1 on"),
        ("  - repeat: 2\n", 3, "repeat: what?"),
        ("  - repeat: 2\n    steps:\n      - sh true\n      - unplg x\n", 6, "'unplg' is neither"),
        ("  - sh echo {{size}}\n", 3, "option 'size' does not exist"),
        ("  - sh echo a: b\n", 3, "step 'sh echo a' does not exist"),
        ("  - sh a\n  - sh b\n   - sh c: d\n", 5, "not valid YAML"),
    ],
)
def test_a_mistake_is_told_with_its_line(steps: str, line: int, words: str, tmp_path: Path) -> None:
    error = told(tmp_path, HEAD + steps)
    assert error.message.startswith(f"{tmp_path}/mine.yaml:{line}: "), error.message
    assert words in error.message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("question: q\n", 1, "steps: Field required"),
        ("steps: [sh true]\n", 1, "question: Field required"),
        (GOOD + "color: red\n", 5, "color: Extra inputs"),
        (GOOD + "modules: nvme\n", 5, "modules: "),
        (GOOD + "options:\n  n: {type: int, default: 1}\n", 6, "options.n.doc: Field required"),
        (GOOD + "options:\n  n: {type: int, default: x, doc: d}\n", 6, "option n: default: got str 'x', wanted int"),
        (GOOD + "options:\n  n: {type: list, default: [], doc: d}\n", 6, "option n: type list"),
        (GOOD + "options:\n  N: {type: int, default: 1, doc: d}\n", 6, "wanted a name of small letters"),
        (GOOD + "options:\n  n: {type: int, default: 1, doc: d}\n", 6, "option n is used in no step"),
        (GOOD + "warp_safe: true\n  ", 0, ""),
        ("question: q\nwarp_safe: true\nsteps:\n  - wait: {host: 1}\n" + GOOD.partition("steps:\n")[2], 4, "minutes"),
        ("- sh true\n", 1, "document: "),
        ("", 0, "holds 0 YAML documents"),
    ],
)
def test_a_mistake_in_the_rest_of_the_file_is_told_too(text: str, line: int, words: str, tmp_path: Path) -> None:
    if not words:
        assert load_steps(written(tmp_path, text)).warp_safe
        return
    error = told(tmp_path, text)
    place = f"{tmp_path}/mine.yaml:{line}: " if line else f"{tmp_path}/mine.yaml: "
    assert error.message.startswith(place), error.message
    assert words in error.message


def test_hints_say_how_it_is_written(tmp_path: Path) -> None:
    texts = ("  - sh: lspci\n", "  - sh echo a: b\n", "  - expect: {path: /x, holds: 0x1af4}\n")
    assert [told(tmp_path, HEAD + steps).hint for steps in texts] == [
        "a line is one text: - sh lspci",
        "a line with ': ' in it needs quotes: - 'sh echo a: b'",
        "YAML does not read it as text: put it in quotes",
    ]


OPTIONS = "options:\n  disk: {type: str, default: nvme, doc: d}\n  n: {type: int, default: 2, doc: d}\n"
OPTIONS += "  fast: {type: bool, default: true, doc: d}\n"
USES = HEAD + (
    "  - repeat: '{{n}}'\n    steps: ['sh true']\n"
    "  - stimulus: plug {{ disk }} on rp2 x={{fast}}\n"
    "  - expect: '{{n}}x'\n"
)


def test_options_stand_in_lines_and_patterns_and_alone_keep_their_type(tmp_path: Path) -> None:
    repeat, stimulus, expect = steps_of(tmp_path, OPTIONS + USES)
    assert (repeat.count, stimulus.text, expect.condition.pattern.pattern) == (2, "plug nvme on rp2 x=on", "2x")
    repeat, stimulus, expect = steps_of(tmp_path, OPTIONS + USES, disk="virtio-blk", n=5, fast=False)
    assert (repeat.count, stimulus.text, expect.condition.pattern.pattern) == (5, "plug virtio-blk on rp2 x=off", "5x")


def test_a_value_that_makes_no_step_is_told_with_the_line(tmp_path: Path) -> None:
    file = load_steps(written(tmp_path, OPTIONS + USES))
    with pytest.raises(InputError, match=r"mine\.yaml:7: .*from 1 on"):
        file.steps({"disk": "nvme", "n": 0, "fast": True})


def test_a_file_of_steps_is_a_scenario_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scenarios").mkdir()
    path = written(tmp_path / "scenarios", OPTIONS + USES + "modules: [nvme]\n", "plug-it.yaml")
    monkeypatch.setenv("TESTBED_PATH", str(tmp_path))
    by_name, by_path = all_scenarios()["plug-it"], find_scenario(str(path))
    assert by_name is by_path is find_scenario(f"{path}:plug-it")
    assert (by_name.name, by_name.question, by_name.modules, by_name.file) == ("plug-it", "Is it so?", ("nvme",), path)
    assert by_name.values({"n": 3}) == {"disk": "nvme", "n": 3, "fast": True}
    with pytest.raises(InputError, match="option of scenario plug-it: 'm' does not exist"):
        by_name.values({"m": 3})


def test_a_yaml_file_is_a_case_unless_it_has_steps(tmp_path: Path) -> None:
    case = "title: t\ndescription: d\ncells:\n- {machine: q35, scenario: plug, expect: good, outcome: x}\n"
    assert is_scenario_file(str(written(tmp_path, GOOD)))
    assert not is_scenario_file(str(written(tmp_path, case, "case.yaml")))
    with pytest.raises(InputError, match="no such file"):
        is_scenario_file(str(tmp_path / "nothing.yaml"))


#: words that mean something in a file, and others
KEYS = ("do", "stimulus", "wait", "expect", "expect-not", "repeat", "steps", "fails", "answer", "log", "event", "path")
MORE_KEYS = ("holds", "gone", "register", "is", "mask", "device", "within", "host")
LINES = ("sh", "plug", "unplug", "DEVICE_DELETED", "device=dev1", "{{n}}", "{{", "(", "/sys", "dev1/driver", ":")
WORDS = st.sampled_from((*KEYS, *MORE_KEYS, *LINES))
TEXTS = WORDS | st.lists(WORDS, max_size=4).map(" ".join) | st.text(max_size=8)
SCALARS = TEXTS | st.integers(-2, 1 << 40) | st.floats() | st.booleans() | st.none() | st.dates()
VALUES = st.recursive(
    SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(WORDS | SCALARS, each, max_size=3), max_leaves=8
)


@given(steps=st.lists(VALUES, max_size=5) | VALUES, more=st.dictionaries(TEXTS, VALUES, max_size=2))
def test_whatever_is_written_is_read_or_told_with_its_file(
    steps: Any, more: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = folder / "any.yaml"
    path.write_text(yaml.safe_dump({"question": "q", **more, "steps": steps}, allow_unicode=True), encoding="utf-8")
    file = None
    told_at = ""
    try:
        file = load_steps(path)
    except InputError as error:
        told_at = error.message
    assert file or told_at.startswith(str(path))
    assert not file or any(step.stimulus for step in _flat(file.steps(_defaults(file))) if isinstance(step, Line))


def _defaults(file: StepFile) -> dict[str, Any]:
    return {name: option.default for name, option in file.options.items()}


def _flat(steps: Any) -> list[Line | Wait | Expect]:
    return [each for step in steps for each in (_flat(step.steps) if isinstance(step, Repeat) else [step])]
