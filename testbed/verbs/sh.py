"""The verb `sh`: a command in the guest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from testbed.model.errors import InputError
from testbed.model.outcome import Finding
from testbed.verbs.answer import Answer, witnessed
from testbed.verbs.bench import AsleepError
from testbed.verbs.verb import Verb

if TYPE_CHECKING:
    from testbed.verbs.bench import Bench


def _parse(text: str) -> str:
    if not text:
        raise InputError("sh: no command", hint="for example: sh lspci -t")
    return text


async def _run(bench: Bench, command: str) -> Answer:
    guest = await bench.living_guest("sh")
    bench.machine.journal.step("guest", command)
    try:
        running = await guest.shell.start(command)
    except ValueError as error:
        raise InputError(str(error)) from None
    try:
        result = await bench.while_it_lives(running.wait(patience=bench.patience))
    except asyncio.CancelledError:
        await running.kill()
        raise
    except AsleepError as asleep:  # asked to, most likely: the command ends once the guest is woken
        bench.sleeper = running
        event = asleep.event
        finding = Finding(subject="QMP event", expected="SUSPEND", observed=event.name, evidence=event.evidence)
        return witnessed(f"{asleep.message}; {asleep.hint}", [finding], outcome="asleep", ok=True)
    printed = [stream.decode("utf-8", "replace").rstrip("\n") for stream in (result.stdout, result.stderr) if stream]
    text = "\n".join((*printed, f"status {result.status}"))
    return Answer(text=text, value=result, ok=result.status == 0)


SH = Verb(usage="sh COMMAND", does="run a command in the guest", parse=_parse, do=_run)
