"""Dumps in every form that people hand on: hex dumps, words without bytes, damage, two machines in one text."""

from __future__ import annotations

import codecs
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.lint.dump import parse_dump
from testbed.lint.hex_row import parse_hex_row
from testbed.lint.linter import lint_functions
from testbed.model.config_space import SIZES
from testbed.model.errors import InputError
from tests.unit.config_bytes import Bytes, as_lspci

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.lint.function import Function

#: a table and a PBA that overlap, and rows of zeros between
CARD = bytes(Bytes(256).u32(0x10, 0xF4600004).u32(0x2C, 0xE006105B).msix(vectors=1, table=0, pba=0).data)
LSPCI = as_lspci(CARD, "03:00.0 Network controller: Qualcomm Atheros AR928X")


def only(text: str) -> Function:
    ((function,),) = parse_dump(text, source="dump.txt").machines
    return function


def xxd(data: bytes) -> str:
    return "".join(f"{at:08x}: {data[at : at + 16].hex(' ', 2)}  {'.' * 16}\n" for at in range(0, len(data), 16))


def hexdump_c(data: bytes) -> str:
    """As hexdump -C has it, with `*` for rows like the one before."""
    lines: list[str] = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        if at and row == data[at - 16 : at]:
            lines += [] if lines[-1] == "*" else ["*"]
        else:
            lines.append(f"{at:08x}  {row[:8].hex(' ')}  {row[8:].hex(' ')}  |{'.' * 16}|")
    return "\n".join([*lines, f"{len(data):08x}", ""])


def words(data: bytes, size: int, offset: str, colon: str = "") -> str:
    """Rows of numbers in the host's order: od, hexdump, xxd -e, U-Boot."""
    lines = []
    for at in range(0, len(data), 16):
        numbers = (data[n : n + size][::-1].hex() for n in range(at, at + 16, size))
        lines.append(f"{format(at, offset)}{colon} {' '.join(numbers)}")
    return "\n".join([*lines, format(len(data), offset), ""])


HEX_DUMPS: dict[str, Callable[[bytes], str]] = {
    "xxd": xxd,
    "xxd -g1": lambda data: "".join(
        f"{at:08x}: {data[at : at + 16].hex(' ')}  ...\n" for at in range(0, len(data), 16)
    ),
    "xxd -e": lambda data: words(data, 4, "08x", ":"),
    "hexdump -C": hexdump_c,
    "hexdump": lambda data: words(data, 2, "07x"),
    "od -t x1": lambda data: words(data, 1, "07o"),
    "od -x": lambda data: words(data, 2, "07o"),
    "od -A d -t x4": lambda data: words(data, 4, "07d"),
    "od -A x -t x1z": lambda data: "".join(
        f"{at:06x} {data[at : at + 16].hex(' ')}  >................<\n" for at in range(0, len(data), 16)
    ),
    "UEFI shell": lambda data: "".join(
        f"  {at:08X}: {data[at : at + 8].hex(' ').upper()}-{data[at + 8 : at + 16].hex(' ').upper()}  *......*\n"
        for at in range(0, len(data), 16)
    ),
}


@pytest.mark.parametrize("form", HEX_DUMPS)
@settings(deadline=None)
@given(data=st.sampled_from(SIZES).flatmap(lambda size: st.binary(min_size=size, max_size=size)) | st.just(CARD))
def test_bytes_survive_every_tools_dump(form: str, data: bytes) -> None:
    assert only(HEX_DUMPS[form](data)).space.data == data


@pytest.mark.parametrize(
    "command", [["xxd"], ["hexdump", "-C"], ["hexdump"], ["od", "-x"], ["od", "-A", "x", "-t", "x1z"], ["xxd", "-e"]]
)
def test_the_tools_of_this_host_are_read(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    text = subprocess.run(command, input=CARD, capture_output=True, check=True).stdout.decode()
    assert only(text).space.data == CARD


@pytest.mark.parametrize(
    "pasted",
    [
        "My card:\n\n" + "".join(f"> {line}\n" for line in LSPCI.splitlines()) + "\nCan it be passed through?\n",
        "".join(f"    {line}\n" for line in LSPCI.splitlines()),
        "".join(f"{number}:{line}\n" for number, line in enumerate(LSPCI.splitlines(), 17)),
        "".join(f"2026-08-25T08:00:00.123456789Z {line}\n" for line in LSPCI.splitlines()),
        LSPCI.replace("\n", "\r\n"),
        codecs.BOM_UTF8.decode() + LSPCI,
    ],
    ids=["quoted", "indented", "grep -n", "container", "CRLF", "BOM"],
)
def test_a_pasted_dump_is_read(pasted: str) -> None:
    function = only(pasted)
    assert (str(function.bdf), function.space.data) == ("0000:03:00.0", CARD)


def test_a_message_of_libpci_in_the_middle_of_a_row_is_left_out() -> None:
    at = LSPCI.index("\n80: ") + 20
    noisy = f"{LSPCI[:at]}pcilib: sysfs_read_vpd: read failed: No such device\n{LSPCI[at:]}"
    function = only(f"pcilib: Cannot open /proc/bus/pci\n{noisy}")
    assert function.space.data == CARD
    # the rows behind it have the lines that they have in the file
    assert function.where(0x90) == "dump.txt:13"


def test_paths_in_a_command_say_whose_bytes_follow() -> None:
    text = (
        f"$ xxd /sys/bus/pci/devices/0000:03:00.0/config\n{xxd(CARD)}"
        f"==> /sys/bus/pci/devices/0000:04:00.1/config <==\n{hexdump_c(CARD)}"
        f"[    0.1] pci 0000:05:00.0: config space:\n{HEX_DUMPS['xxd -g1'](CARD)}"
    )
    (functions,) = parse_dump(text, source="dump.txt").machines
    assert [str(each.bdf) for each in functions] == ["0000:03:00.0", "0000:04:00.1", "0000:05:00.0"]
    assert all(each.space.data == CARD for each in functions)


def test_dumps_without_addresses_are_functions_of_their_own() -> None:
    (functions,) = parse_dump(xxd(CARD) + "\n" + hexdump_c(bytes(64)), source="dump.txt").machines
    assert [(each.bdf, len(each.space)) for each in functions] == [(None, 256), (None, 64)]


def test_the_registers_that_setpci_names_make_bytes_where_they_have_no_gap() -> None:
    lines = [f"0000:03:00.0 @{at:02x} = {int.from_bytes(CARD[at : at + 4], 'little'):08x}" for at in range(0, 256, 4)]
    assert only("\n".join(lines)).space.data == CARD
    with pytest.raises(InputError, match="has 240 bytes of registers"):
        parse_dump("\n".join(lines[4:]), source="dump.txt")


def test_functions_without_bytes_are_named_and_the_others_judged() -> None:
    text = f"$ lspci -xxx\n{LSPCI}\n$ lspci -nn\n00:1c.0 PCI bridge [0604]: x\n03:00.0 Network controller [0280]: y\n"
    dump = parse_dump(text, source="dump.txt")
    assert [[str(each.bdf) for each in machine] for machine in dump.machines] == [["0000:03:00.0"]]
    assert [(each.function, each.damaged) for each in dump.skipped] == [("0000:00:1c.0", False)]


def test_words_and_bytes_of_two_commands_are_one_function() -> None:
    decoded = "03:00.0 Network controller: x\n\tRegion 0: Memory at f4600000 (64-bit, non-prefetchable) [size=64K]\n"
    for text in (f"{decoded}\n{LSPCI}", f"{LSPCI}\n{decoded}"):
        function = only(text)
        assert (function.space.data, function.bar_sizes) == (CARD, {0: 64 << 10})


def test_the_same_function_with_other_bytes_is_another_dump_of_the_machine() -> None:
    later = as_lspci(bytes(256), "03:00.0 Network controller: Qualcomm Atheros AR928X")
    first, second = parse_dump(f"{LSPCI}\n{later}", source="dump.txt").machines
    assert [each.space.data for each in (*first, *second)] == [CARD, bytes(256)]
    assert len(parse_dump(f"{LSPCI}\n{LSPCI}", source="dump.txt").machines) == 1


def test_a_dump_that_is_cut_off_is_judged_as_far_as_it_goes_and_named() -> None:
    lines = LSPCI.splitlines()[:10]
    dump = parse_dump("\n".join(lines), source="dump.txt")
    assert len(dump.machines[0][0].space) == 128
    (skipped,) = dump.skipped
    assert (skipped.function, skipped.damaged) == ("0000:03:00.0", True)
    assert "the first 128 bytes" in skipped.reason


DECODED = """\
01:00.0 Non-Volatile memory controller: Intel Corporation Device f1a7 (rev 03) (prog-if 02 [NVM Express])
\tRegion 0: Memory at f7c00000 (64-bit, non-prefetchable) [size={size}]
\tCapabilities: [b0] MSI-X: Enable+ {count} Masked-
\t\tVector table: BAR=0 offset=00002000
\t\tPBA: BAR=0 offset={pba}
"""


@pytest.mark.parametrize(
    ("count", "pba", "size", "rules"),
    [
        ("Count=24", "00002100", "16K", ["msix-overlap"]),
        ("Mask- TabSize=24", "00002100", "16K", ["msix-overlap"]),  # lspci up to 3.1
        ("Count=16", "00002100", "16K", []),
        ("Count=24", "00002180", "16K", []),
        ("Count=24", "00003000", "8K", ["msix-outside", "msix-outside"]),
    ],
)
def test_words_alone_tell_of_msix(count: str, pba: str, size: str, rules: list[str]) -> None:
    report = lint_functions([only(DECODED.format(count=count, pba=pba, size=size))])
    assert [each.rule for each in report.errors] == rules
    assert all(each.where in ("dump.txt:3", "dump.txt:4", "dump.txt:5") for each in report.errors)
    assert "cap-loop" in {each.rule for each in report.not_checked}


def test_words_that_tell_nothing_of_msix_are_no_dump() -> None:
    with pytest.raises(InputError, match="no bytes") as caught:
        parse_dump(DECODED[: DECODED.index("\tCap")], source="dump.txt")
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["be: added to the list", "10:30 hello", "added: 00", "00: maybe 00 or so I thought", "", "cafe babe"]
)
def test_prose_is_no_row(text: str) -> None:
    assert parse_hex_row(text) is None
