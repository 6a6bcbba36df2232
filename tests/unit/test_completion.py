"""What Tab offers, by what stands before the cursor."""

from __future__ import annotations

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from testbed.cli.completion import SessionCompleter, Vocabulary, candidates
from testbed.model.errors import ChannelError
from testbed.verbs.verb import Argument
from testbed.verbs.verbs import VERBS

KNOWN = Vocabulary(
    verbs={"help": (), **{name: VERBS[name].arguments for name in ("plug", "unplug", "inject", "qmp")}, "quit": ()},
    words={
        Argument.COMMAND: ["query-pci", "query-status", "quit", "stop"],
        Argument.DRIVER: ["virtio-blk", "virtio-net", "e1000"],
        Argument.ON: ["on"],
        Argument.BUS: ["pcie.0", "rp1", "rp2"],
        Argument.ERROR: ["COMP_ABORT", "COMP_TIME", "DLP"],
        Argument.DEVICE: ["dev1", "dev2", "rp1"],
    },
)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("unp", ["unplug"]),
        ("query-p", ["query-pci"]),
        ("p", ["plug"]),
        ("qmp query-s", ["query-status"]),
        ("qmp  query-s", ["query-status"]),
        ("unplug ", ["dev1", "dev2", "rp1"]),
        ("unplug dev1 ", []),
        ("inject r", ["rp1"]),
        ("inject rp1 COMP_", ["COMP_ABORT", "COMP_TIME"]),
        ("inject rp1 DLP ", []),
        ("plug virtio-", ["virtio-blk", "virtio-net"]),
        ("plug e1000 o", ["on"]),
        ("plug e1000 on rp", ["rp1", "rp2"]),
        ("device_del id=d", ["id=dev1", "id=dev2"]),
        ("sh ls /", []),
        ("help ", []),
        ("nonsense", []),
    ],
)
def test_what_fits_is_offered(line: str, offered: list[str]) -> None:
    assert candidates(line, KNOWN) == offered


async def test_the_last_word_is_replaced() -> None:
    async def vocabulary() -> Vocabulary:
        return KNOWN

    completer = SessionCompleter(vocabulary)
    document = Document("unplug de")
    offered = [each async for each in completer.get_completions_async(document, CompleteEvent())]
    assert [(each.text, each.start_position) for each in offered] == [("dev1", -2), ("dev2", -2)]


async def test_a_qemu_that_has_ended_offers_nothing() -> None:
    async def vocabulary() -> Vocabulary:
        raise ChannelError("QMP: gone")

    completer = SessionCompleter(vocabulary)
    assert [each async for each in completer.get_completions_async(Document("un"), CompleteEvent())] == []
