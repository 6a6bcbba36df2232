"""The verb `system_reset`: the machine is reset, and its guest boots anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.guest.reset import reset, reset_unwatched
from testbed.model.outcome import Finding
from testbed.verbs.answer import witnessed
from testbed.verbs.verb import Verb
from testbed.verbs.words import no_words

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.guest.shell import Hello
    from testbed.verbs.answer import Answer
    from testbed.verbs.bench import Bench

NAME = "system_reset"


async def reset_machine(bench: Bench, _: None) -> Answer:
    """Reset the machine, let it go on if it was stopped, and wait until the guest is up, with its drivers again."""
    bench.note_request()
    bench.machine.watch.forget()
    if bench.guest is None:
        await reset_unwatched(bench.machine)
        return await bench.unwatched("QEMU has reset the machine")
    bench.rebooted = True
    with bench.machine.qmp.listen("RESET", guest=False) as came:
        hello = await bench.while_it_lives(_up_again(bench.guest))
        event = await came.wait()
    await bench.load_drivers(bench.guest)
    finding = Finding(
        subject="QMP event", expected="RESET", observed=f"RESET {dict(event.data)}", evidence=event.evidence
    )
    head = f"reset: Linux {hello.release} is up after {hello.seconds:.1f} s"
    return witnessed(head, [finding], outcome="up", ok=True)


async def _up_again(guest: Guest) -> Hello:
    async with reset(guest):
        pass
    return await guest.shell.hello()


RESET = Verb(
    usage=NAME, does="reset the machine and wait until its guest is up again", parse=no_words(NAME), do=reset_machine
)
