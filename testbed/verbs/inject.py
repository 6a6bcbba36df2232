"""The verb `inject`: a PCIe error, and whether the guest hears of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.aer import inject
from testbed.actions.injection import InjectionVerdict
from testbed.actions.injectors import inject_by_qemu
from testbed.model.aer_name import find_record
from testbed.verbs.answer import Answer, witnessed
from testbed.verbs.verb import Argument, Verb
from testbed.verbs.words import misused, parse_header, split_words

if TYPE_CHECKING:
    from testbed.actions.injection import Header
    from testbed.verbs.bench import Bench

_USAGE = "inject ID ERROR [HEADER...]"


@dataclass(frozen=True, kw_only=True)
class InjectOrder:
    """What `inject` was asked for."""

    device: str
    error: str
    header: Header | None


def _parse(text: str) -> InjectOrder:
    words = split_words(text)
    if len(words) < 2:
        raise misused(text, _USAGE, example="inject rp1 COMP_TIME")
    find_record(words[1])
    return InjectOrder(device=words[0], error=words[1], header=parse_header(words[2:]))


async def _inject(bench: Bench, order: InjectOrder) -> Answer:
    bench.note_request()
    guest = await bench.answering()
    if guest is None:
        record = find_record(order.error)
        said = await inject_by_qemu(bench.machine, order.device, record, header=order.header)
        return await bench.unwatched(said)
    result = await bench.while_it_lives(inject(guest, order.device, order.error, header=order.header))
    return witnessed(
        f"{result.request}: {result.verdict} by {result.route}",
        result.findings,
        outcome=result.verdict,
        ok=result.verdict is InjectionVerdict.INJECTED,
    )


INJECT = Verb(
    usage=_USAGE,
    does="inject a PCIe error, and see whether the guest is told of it",
    parse=_parse,
    do=_inject,
    arguments=(Argument.DEVICE, Argument.ERROR),
)
