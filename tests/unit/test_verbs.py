"""From a typed line to what a verb needs, and what is said about a line that does not fit."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.machine.qmp_schema import QmpSchema
from testbed.model.errors import InputError
from testbed.model.printable import harmless
from testbed.verbs.plug import PlugOrder, parse_plug
from testbed.verbs.qmp import parse_qmp
from testbed.verbs.verbs import VERBS, check_line
from testbed.verbs.wait import WaitOrder, parse_wait
from testbed.verbs.words import parse_count


def _member(name: str, kind: str) -> dict[str, str]:
    return {"name": name, "type": kind}


#: as `query-qmp-schema` has it, shortened
SCHEMA = QmpSchema(
    [
        {"name": "block_resize", "meta-type": "command", "arg-type": "1"},
        {"name": "set_link", "meta-type": "command", "arg-type": "2"},
        {"name": "object-add", "meta-type": "command", "arg-type": "3"},
        {"name": "stop", "meta-type": "command", "arg-type": "0"},
        {"name": "0", "meta-type": "object", "members": []},
        {"name": "1", "meta-type": "object", "members": [_member("size", "int"), _member("device", "str")]},
        {"name": "2", "meta-type": "object", "members": [_member("up", "bool"), _member("name", "str")]},
        {
            "name": "3",
            "meta-type": "object",
            "members": [_member("qom-type", "4"), _member("id", "str")],
            "tag": "qom-type",
            "variants": [{"case": "ram", "type": "5"}, {"case": "rng", "type": "0"}],
        },
        {"name": "4", "meta-type": "enum", "values": ["ram", "rng"]},
        {"name": "5", "meta-type": "object", "members": [_member("size", "int")]},
        {"name": "int", "meta-type": "builtin", "json-type": "int"},
        {"name": "str", "meta-type": "builtin", "json-type": "string"},
        {"name": "bool", "meta-type": "builtin", "json-type": "boolean"},
    ]
)


def test_the_commands_are_those_of_the_schema() -> None:
    assert SCHEMA.commands == ["block_resize", "object-add", "set_link", "stop"]


@pytest.mark.parametrize(
    ("text", "command", "arguments"),
    [
        ("query-pci", "query-pci", {}),
        ("  device_del   id=dev1 ", "device_del", {"id": "dev1"}),
        ("x n=1 f=1.5 t=true z=null", "x", {"n": 1, "f": 1.5, "t": True, "z": None}),
        ("x s=on hex=0x10 empty= eq=a=b", "x", {"s": True, "hex": "0x10", "empty": "", "eq": "a=b"}),
        ("x s='\"on\"' o=Off", "x", {"s": "on", "o": False}),
        ("block_resize size=512M device=1", "block_resize", {"size": 512 << 20, "device": "1"}),
        ("block_resize size=0x10", "block_resize", {"size": 16}),
        ("set_link up=on name=on", "set_link", {"up": True, "name": "on"}),
        ("object-add qom-type=ram id=m size=1G", "object-add", {"qom-type": "ram", "id": "m", "size": 1 << 30}),
        ("object-add qom-type=rng id=m size=1G", "object-add", {"qom-type": "rng", "id": "m", "size": "1G"}),
        ("""x line="info pci" n='"1"'""", "x", {"line": "info pci", "n": "1"}),
        ("""x list='[1, {"a": 2}]'""", "x", {"list": [1, {"a": 2}]}),
        ('qom-get {"path": "/", "property": "type"}', "qom-get", {"path": "/", "property": "type"}),
        ('{"execute": "stop"}', "stop", {}),
        ('{"execute": "x", "arguments": {"a": [1]}, "id": 3}', "x", {"a": [1]}),
    ],
)
def test_a_qmp_line_becomes_a_command_and_its_arguments(text: str, command: str, arguments: dict[str, Any]) -> None:
    assert parse_qmp(text, SCHEMA.kinds) == (command, arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no command"),
        ("   ", "no command"),
        ("x id", "'id' is not key=value"),
        ("x =1", "'=1' is not key=value"),
        ('x "id=1', "No closing quotation"),
        ("{", "not JSON"),
        ('{"execute": 1}', "no command in 'execute'"),
        ('{"execute": "x", "arguments": []}', "no command in 'execute'"),
        ("x {1}", "not JSON"),
        ("block_resize size=big", "size: got 'big'"),
        ("set_link up=maybe", "up: got 'maybe'"),
    ],
)
def test_a_qmp_line_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_qmp(text, SCHEMA.kinds)


@pytest.mark.parametrize(
    ("text", "driver", "place", "properties"),
    [
        ("virtio-blk", "virtio-blk", (None, None, None), {}),
        ("e1000 on rp3", "e1000", (None, "rp3", None), {}),
        ("e1000 bus=pcie.0 addr=0x1f.2 id=card", "e1000", ("card", "pcie.0", "0x1f.2"), {}),
        ("e1000 mac=52:54:00:00:00:01", "e1000", (None, None, None), {"mac": "52:54:00:00:00:01"}),
        ("nvme on rp3 serial='a b' x=1=2", "nvme", (None, "rp3", None), {"serial": "a b", "x": "1=2"}),
    ],
)
def test_a_plug_line_names_driver_place_and_properties(
    text: str, driver: str, place: tuple[str | None, str | None, str | None], properties: dict[str, str]
) -> None:
    device_id, bus, addr = place
    assert parse_plug(text) == PlugOrder(driver=driver, id=device_id, bus=bus, addr=addr, properties=properties)


@pytest.mark.parametrize("text", ["", "e1000 on", "e1000 rp3", "e1000 on rp3 extra", "e1000 =1"])
def test_a_plug_line_that_is_none_is_refused_with_the_usage(text: str) -> None:
    with pytest.raises(InputError, match="wanted plug DEVICE") as caught:
        parse_plug(text)
    assert caught.value.hint == "for example: plug virtio-blk on rp3 id=disk1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nvme id=1st", "id=1st: wanted an id"),
        ("nvme id=", "id=: wanted an id"),
        ("nvme addr=33.9", "addr=33.9: wanted a slot"),
        ("nvme bus=", "bus=: wanted the name of a bus"),
        ("nvme driver=e1000", "the driver comes first"),
        ("nvme on rp2 bus=rp3", "sets something twice"),
    ],
)
def test_a_place_or_an_id_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        parse_plug(text)


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("2", WaitOrder(seconds=2.0)),
        ("0.5", WaitOrder(seconds=0.5)),
        ("STOP", WaitOrder(event="STOP")),
        ("device_deleted device=dev1", WaitOrder(event="DEVICE_DELETED", data={"device": "dev1"})),
        ("RESET guest=true within 3", WaitOrder(event="RESET", data={"guest": True}, seconds=3.0)),
    ],
)
def test_a_wait_is_for_seconds_or_for_an_event(text: str, order: WaitOrder) -> None:
    assert parse_wait(text) == order


@pytest.mark.parametrize(
    "text", ["", "''", "-1", "1e9", "1e999", "2 s", "STOP 5", "STOP within", "STOP within soon", "=1"]
)
def test_a_wait_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="wait: got"):
        parse_wait(text)


@given(st.sampled_from([*VERBS, "query-pci", "stop", "{", ""]), st.text())
def test_no_line_is_answered_but_by_what_is_wrong_with_it(verb: str, text: str) -> None:
    with contextlib.suppress(InputError):
        check_line(f"{verb} {text}")


def test_a_count_has_a_default_and_is_a_number() -> None:
    assert parse_count("", default=20) == 20
    assert parse_count(" 5 ", default=20) == 5
    for text in ("-1", "many", "1.5"):
        with pytest.raises(InputError, match="is not a number of lines"):
            parse_count(text, default=20)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "  # a comment",
        "sh lspci | grep -c 1af4",
        "plug virtio-blk on rp2 serial='a b'",
        "unplug dev1",
        "inject rp1 COMP_TIME 0x40000001",
        "query-pci",
        "stop",
        "device_del id=dev1",
        'qom-get {"path": "/", "property": "type"}',
        '{"execute": "stop"}',
        "qmp anything",
        "log 400",
        "events",
    ],
)
def test_a_line_that_some_machine_takes_passes(line: str) -> None:
    check_line(line)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("unplgu dev1", "neither a verb nor a QMP command"),
        ("stop now", "'now' is not key=value"),
        ("query-pci nonsense", "'nonsense' is not key=value"),
        ("sh", "no command"),
        ("plug", "wanted plug DEVICE"),
        ("unplug a b", "wanted unplug ID"),
        ("inject rp1", "wanted inject ID ERROR"),
        ("inject rp1 NO_SUCH", "NO_SUCH"),
        ("inject rp1 DLP 1 2 3 4 5", "four words"),
        ("devices all", "takes no arguments"),
        ("log many", "not a number of lines"),
        ("qmp", "no command"),
        ("{", "not JSON"),
    ],
)
def test_a_line_that_no_machine_takes_is_refused_before_there_is_one(line: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_line(line)


def test_a_slip_is_answered_with_the_verb_that_is_meant() -> None:
    with pytest.raises(InputError) as caught:
        check_line("unplgu dev1")
    assert "did you mean unplug?" in str(caught.value.hint)


def test_each_verb_is_found_by_the_first_word_of_its_usage() -> None:
    assert all(verb.usage.split()[0] == name for name, verb in VERBS.items())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b2J\r\x7f", "\\x9b2J\\r\\x7f"),
        ("Grüße 世界", "Grüße 世界"),
        ("\u202eltr", "\\u202eltr"),
    ],
)
def test_what_a_guest_says_is_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert harmless(text) == shown


@given(st.text())
def test_nothing_harmless_holds_a_control_character(text: str) -> None:
    assert all(char.isprintable() or char in "\t\n" for char in harmless(text))
