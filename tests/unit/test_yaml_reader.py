"""The YAML reader: every mistake is an InputError with file and line, whatever the text."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from testbed.model.catalog import CASES, RECIPES, STEPS
from testbed.model.errors import InputError
from testbed.model.yaml_reader import MAX_NODES, parse_yaml, read_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.model.catalog import Shelf


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    count: int = 0


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    title: str
    parts: list[Part] = []


def value(text: str) -> Any:
    (document,) = parse_yaml(text, source="f.yaml")
    return document.value


def refused(text: str, *, first_line: int = 1) -> str:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, source="f.yaml", first_line=first_line)
    return caught.value.message


def test_values_come_as_yaml_says() -> None:
    assert value("a: [1, two, {b: off}]") == {"a": [1, "two", {"b": False}]}


def test_an_empty_text_holds_no_document_and_an_empty_document_no_value() -> None:
    assert parse_yaml("", source="f") == []
    assert [document.value for document in parse_yaml("---\n---\na: 1\n", source="f")] == [None, {"a": 1}]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1,\nb: }", 2),
        ("a: 1\n\tb: 2", 2),
        ("a: 'open\n", 2),
        ("a: 1\nb: *nowhere\n", 2),
        ("a: 1\n b: 2\n", 2),
        ("x: 1\ny: !!python/object:os.system {}\n", 2),
        ("? [a]\n: 1", 1),
        ("a: {b: 1,\n    b: 2}", 2),
        ("a: 1\nb: 2\na: 3", 3),
        ("- a: 1\n- x:\n    y: 1\n    y: 2", 4),
    ],
)
def test_a_syntax_error_is_named_by_file_and_line(text: str, line: int) -> None:
    assert refused(text).startswith(f"f.yaml:{line}: ")
    assert refused(text, first_line=10).startswith(f"f.yaml:{line + 9}: ")


def test_a_duplicate_key_is_named() -> None:
    assert "'a' is given twice" in refused("a: 1\na: 2")


def test_two_merges_are_no_duplicate_keys() -> None:
    assert value("x: &x {a: 1}\ny: &y {b: 2}\nz:\n  <<: *x\n  <<: *y\n")["z"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "text", ["!!bool maybe", "!!int ''", "!!float ''", "!!timestamp soon", "!!int 0x", "2020-13-45", "\x00", "\ud800"]
)
def test_what_pyyaml_trips_over_is_an_input_error(text: str) -> None:
    assert refused(text).startswith("f.yaml")


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert f"more than {MAX_NODES} nodes" in refused("\n".join(lines))


@pytest.mark.parametrize("text", ["[" * 5000, "[" * 5000 + "]" * 5000, "{a: " * 5000, "- " * 5000, "&a [*a]"])
def test_endless_nesting_is_an_input_error(text: str) -> None:
    assert refused(text).startswith("f.yaml")


@pytest.mark.parametrize("depth", range(50, 1050, 50))
def test_no_depth_of_nesting_ends_in_a_recursion_error(depth: int) -> None:
    with pytest.raises(InputError):  # deep enough for the parser to give up, or only not what is wanted
        parse_yaml("[" * depth + "]" * depth, source="f.yaml")[0].validate(Whole)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: t\nparts:\n- name: 5\n", "f.yaml:3: parts.0.name: Input should be a valid string (got int 5)"),
        (
            "title: t\nparts:\n- name: a\n- name: b\n  count: x\n",
            "f.yaml:5: parts.1.count: Input should be a valid integer (got str 'x')",
        ),
        ("title: t\nparts:\n- count: 1\n", "f.yaml:3: parts.0.name: Field required"),
        ("title: t\n\nsize: 1\n", "f.yaml:3: size: Extra inputs are not permitted (got int 1)"),
        ("\n- a", "f.yaml:2: document: Input should be a valid dictionary"),
        ("", "document: Input should be a valid dictionary"),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_line_path_and_type(text: str, message: str) -> None:
    (document,) = parse_yaml(text or "---\n", source="f.yaml")
    with pytest.raises(InputError) as caught:
        document.validate(Whole)
    assert message in caught.value.message


def test_every_mistake_is_told_at_once() -> None:
    (document,) = parse_yaml("title: 1\nparts:\n- name: 2\n", source="f.yaml")
    with pytest.raises(InputError) as caught:
        document.validate(Whole)
    assert [line.split(": ")[0] for line in caught.value.message.splitlines()] == ["f.yaml:1", "f.yaml:3"]


def test_known_keys_are_hinted_at_for_an_unknown_one() -> None:
    (document,) = parse_yaml("title: t\nsize: 1\n", source="f.yaml")
    with pytest.raises(InputError) as caught:
        document.validate(Whole)
    assert caught.value.hint == "known keys are: title, parts"


def test_a_long_value_is_cut_in_the_message() -> None:
    (document,) = parse_yaml(f"title: [{'x' * 500}]", source="f.yaml")
    with pytest.raises(InputError) as caught:
        document.validate(Whole)
    assert len(caught.value.message) < 200


def test_a_node_that_is_not_there_stands_where_its_parent_does() -> None:
    (document,) = parse_yaml("a: 1\nb:\n  c: 2\n", source="f.yaml", first_line=11)
    assert document.where(("b", "c")) == "f.yaml:13"
    assert document.where(("b", "x", "y")) == "f.yaml:13"  # a mapping begins with its first key
    assert document.where() == "f.yaml:11"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml")


def test_a_folder_and_a_binary_file_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "image.yaml"
    binary.write_bytes(b"\x7fELF\xff\xfe")
    for path in (tmp_path, binary):
        with pytest.raises(InputError, match="cannot be read as UTF-8 text"):
            read_yaml(path)


#: text that is YAML more often than plain text is
YAMLISH = st.text(st.sampled_from("ab01:-?[]{},&*!|>'\"#%@ \n\t<~.=x")) | st.lists(
    st.sampled_from(
        ["a", ": ", "- ", "\n", "  ", "&a ", "*a", "!!int ", "!!bool ", "!!set ", "<<", "? ", "[", "]", "{"]
    )
).map("".join)


@given(st.text(st.characters(exclude_categories=())) | YAMLISH)
@example("!!bool a")
@example("%YAML 9.9\n---\na")
@example("0001-01-01 00:00:00 +23:59")
def test_any_text_is_a_value_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        for document in parse_yaml(text, source="f.yaml"):
            with contextlib.suppress(InputError):
                document.validate(Whole)


def read_twice(text: str) -> list[Any]:
    """Return what libyaml makes of a text and what PyYAML's own parser does: values and lines, or the error."""
    seen: list[Any] = []
    for libyaml in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("yaml.__with_libyaml__", libyaml)
            try:
                seen.append([(document.value, document.lines) for document in parse_yaml(text, source="f")])
            except InputError as error:
                seen.append(error.message)
    return seen


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="this PyYAML has no libyaml")
@pytest.mark.parametrize("shelf", [CASES, RECIPES, STEPS])
def test_both_parsers_read_the_same_in_what_is_shipped(shelf: Shelf) -> None:
    for path in shelf.paths().values():
        first, second = read_twice(path.read_text())
        assert first == second, path


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="this PyYAML has no libyaml")
@given(st.text(alphabet="ab1:-?,[]{}'\"#&*!|>%@ \t\n~é", max_size=40))
def test_both_parsers_read_the_same_where_both_can(text: str) -> None:
    first, second = read_twice(text)
    if not isinstance(second, str):  # what PyYAML refuses, libyaml may know to read
        # the line of a key that is empty is told otherwise; repr: not a number is a number that is not itself
        assert [repr(value) for value, _ in first] == [repr(value) for value, _ in second]
