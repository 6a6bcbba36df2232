"""The verb `system_wakeup`: a guest that sleeps is woken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.suspend import PATIENCE
from testbed.model.outcome import Finding
from testbed.verbs.answer import witnessed
from testbed.verbs.verb import Verb
from testbed.verbs.words import no_words

if TYPE_CHECKING:
    from testbed.verbs.answer import Answer
    from testbed.verbs.bench import Bench

NAME = "system_wakeup"


async def wake_guest(bench: Bench, _: None) -> Answer:
    """Wake the guest, and wait for the end of the command that put it to sleep.

    Until then its serial ports resume, and what is sent to it is lost (Linux 6.1).
    """
    bench.note_request()
    with bench.machine.qmp.listen("WAKEUP") as woken:
        await bench.machine.qmp.execute(NAME)
        event = await woken.wait()
    finding = Finding(subject="QMP event", expected="WAKEUP", observed=event.name, evidence=event.evidence)
    if bench.sleeper is None:
        return witnessed(
            "woken; what put it to sleep is not known, so its return is not watched",
            [finding],
            outcome="woken",
            ok=True,
        )
    sleeper, bench.sleeper = bench.sleeper, None
    result = await bench.while_it_lives(sleeper.wait(patience=PATIENCE))
    return witnessed(
        f"awake: what put it to sleep has ended, status {result.status}",
        [finding],
        outcome="awake",
        ok=result.status == 0,
    )


WAKE = Verb(usage=NAME, does="wake a guest that sleeps, and wait until it answers", parse=no_words(NAME), do=wake_guest)
