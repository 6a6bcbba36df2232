"""From a typed line to what a verb needs, and what is said about a line that does not fit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.cli.verb_line import PlugOrder, parse_count, parse_plug, parse_qmp
from testbed.model.errors import InputError
from testbed.model.printable import harmless

USAGE = "plug DEVICE [on BUS] [PROPERTY=VALUE...]"


@pytest.mark.parametrize(
    ("text", "command", "arguments"),
    [
        ("query-pci", "query-pci", {}),
        ("  device_del   id=dev1 ", "device_del", {"id": "dev1"}),
        ("x n=1 f=1.5 t=true z=null", "x", {"n": 1, "f": 1.5, "t": True, "z": None}),
        ("x s=on hex=0x10 empty= eq=a=b", "x", {"s": "on", "hex": "0x10", "empty": "", "eq": "a=b"}),
        ("""x line="info pci" n='"1"'""", "x", {"line": "info pci", "n": "1"}),
        ("""x list='[1, {"a": 2}]'""", "x", {"list": [1, {"a": 2}]}),
        ('qom-get {"path": "/", "property": "type"}', "qom-get", {"path": "/", "property": "type"}),
        ('{"execute": "stop"}', "stop", {}),
        ('{"execute": "x", "arguments": {"a": [1]}, "id": 3}', "x", {"a": [1]}),
    ],
)
def test_a_qmp_line_becomes_a_command_and_its_arguments(text: str, command: str, arguments: dict[str, Any]) -> None:
    assert parse_qmp(text) == (command, arguments)


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
    ],
)
def test_a_qmp_line_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_qmp(text)


@pytest.mark.parametrize(
    ("text", "driver", "bus", "properties"),
    [
        ("virtio-blk", "virtio-blk", None, {}),
        ("e1000 on rp3", "e1000", "rp3", {}),
        ("e1000 mac=52:54:00:00:00:01", "e1000", None, {"mac": "52:54:00:00:00:01"}),
        ("nvme on rp3 serial='a b' x=1=2", "nvme", "rp3", {"serial": "a b", "x": "1=2"}),
    ],
)
def test_a_plug_line_names_driver_bus_and_properties(
    text: str, driver: str, bus: str | None, properties: dict[str, str]
) -> None:
    assert parse_plug(text, usage=USAGE) == PlugOrder(driver=driver, bus=bus, properties=properties)


@pytest.mark.parametrize("text", ["", "e1000 on", "e1000 rp3", "e1000 on rp3 extra", "e1000 =1"])
def test_a_plug_line_that_is_none_is_refused_with_the_usage(text: str) -> None:
    with pytest.raises(InputError, match="wanted plug DEVICE") as caught:
        parse_plug(text, usage=USAGE)
    assert caught.value.hint == "for example: plug virtio-blk on rp3"


def test_a_count_has_a_default_and_is_a_number() -> None:
    assert parse_count("", default=20) == 20
    assert parse_count(" 5 ", default=20) == 5
    for text in ("-1", "many", "1.5"):
        with pytest.raises(InputError, match="no number of lines"):
            parse_count(text, default=20)


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
