"""`testbed boot`: a machine to look around in."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from prompt_toolkit import PromptSession
from prompt_toolkit.patch_stdout import patch_stdout

from testbed.campaign.prepared import launched, prepare
from testbed.cli.completion import SessionCompleter
from testbed.cli.frame import CommandFrame
from testbed.cli.options import RUNS, MachineName, Rundir, SetupOptions, spliced
from testbed.cli.session import Session, explain
from testbed.cli.standard_input import StandardInput, at_terminal
from testbed.cli.terminal import plain, show_progress
from testbed.guest.console.frames import without_frames
from testbed.guest.console.guest import boot_by_loader
from testbed.guest.guest import Guest, prepare_state
from testbed.guest.guest import boot as boot_guest
from testbed.guest.user_space import settled
from testbed.host.host import LocalHost
from testbed.host.slots import core_count, guest_slot
from testbed.machine.reproduce import write_reproduction
from testbed.model.catalog import STEPS, TEMPLATES
from testbed.model.errors import BedError, GuestCrashedError, InputError, QemuCrashedError, QemuLostError
from testbed.model.kernel_log import FINAL, Crash
from testbed.model.printable import harmless

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from testbed.campaign.prepared import Prepared
    from testbed.machine.launch import Machine
    from testbed.machine.qmp import Event

    Ask = Callable[[], Awaitable[str | None]]
    Way = Callable[[Machine], AbstractAsyncContextManager[Guest]]

#: a line without an end is shown once it is this long
_LONGEST_LINE = 4096


@spliced
def boot(
    machine: MachineName,
    setup: SetupOptions,
    rundir: Rundir = RUNS,
    drivers: Annotated[
        bool, typer.Option("--drivers/--no-drivers", help="Load drivers for all devices, present and plugged.")
    ] = True,
    stop: Annotated[bool, typer.Option("-e", help="End a script at the first line that fails, as sh -e does.")] = False,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="Record the session as a scenario of steps.")
    ] = None,
) -> None:
    """Boot a machine and look around in it: plug, unplug, inject, QMP, and a shell on the guest's console.

    Without a terminal the same verbs are read from standard input, one a line. Such a script ends with 1 if a verb
    failed (a status that is not 0, an unplug that was ignored, a refusal), and with 2 if a line was not understood.
    """
    _check_record(record)
    prepared = prepare(setup.setup(machine), progress=show_progress)
    # those of a disk's user space are its own affair
    drivers = drivers and not prepared.setup.whole and prepared.built is not None
    with CommandFrame(rundir) as frame:
        status = frame.run(_visit(prepared, frame.folder, drivers=drivers, stop=stop, record=record))
    raise typer.Exit(status)


def _check_record(file: Path | None) -> None:
    """Raise InputError for a file that cannot become a scenario, or is there already."""
    if file is None:
        return
    if file.suffix != STEPS.suffix:
        raise InputError(f"--record {file}: a scenario's file ends with {STEPS.suffix}")
    if file.exists():
        raise InputError(f"--record {file}: file exists", hint="name another file, or remove it")
    if not file.absolute().parent.is_dir():
        raise InputError(f"--record {file}: no such folder")


def _write_recording(file: Path, session: Session, prepared: Prepared, *, drivers: bool) -> None:
    """Write what was done, however the session ended."""
    try:
        file.write_text(session.recording.text(setup=str(prepared.setup), drivers=drivers), encoding="utf-8")
        _say(f"recorded: {file}")
    except InputError as error:
        explain(error, _say)
    except OSError as error:
        _say(f"error: --record {file}: {error.strerror}")


async def _visit(prepared: Prepared, folder: Path, *, drivers: bool, stop: bool, record: Path | None) -> int:
    """Return what the command is to end with."""
    name = Path(prepared.template.name).name.removesuffix(TEMPLATES.suffix)
    async with contextlib.AsyncExitStack() as stack:
        machine, guest = await _start(prepared, folder, stack, name)
        stack.callback(write_reproduction, machine, title=f"testbed boot {name}")
        stdin = StandardInput()
        session = Session(machine, guest, say=_say, stdin=stdin)
        if record:
            stack.callback(_write_recording, record, session, prepared, drivers=drivers)
        stack.enter_context(machine.console.follow(_ConsoleLines(session, framed=prepared.built is None).take))
        stack.enter_context(machine.qmp.follow(lambda event: _say_event(event, session)))
        await session.start(drivers=drivers)
        if at_terminal():
            await _converse(session, machine, _prompt(name, session))
            return 0
        await _converse(session, machine, _script(name, stdin), stop=stop)
        return session.status


async def _start(
    prepared: Prepared, folder: Path, stack: contextlib.AsyncExitStack, name: str
) -> tuple[Machine, Guest | None]:
    """Boot the machine for as long as the stack is open; without a guest if that did not come up."""
    host = await stack.enter_async_context(LocalHost())
    # held while it boots only: an idle guest takes no core
    async with guest_slot(count=core_count(), on_wait=lambda: show_progress("waiting for a guest slot")):
        show_progress(f"booting {name}: QEMU {prepared.qemu.version}, {prepared.accel}")
        machine = await stack.enter_async_context(launched(prepared, host, folder))
        # whatever the guest does, a person wants to look at it
        machine.watch.tolerate(*Crash)
        stack.enter_context(machine.watch.follow(lambda crash: _say(crash.message)))
        guest = await _boot(machine, stack, boot_guest if prepared.built else boot_by_loader)
    if guest:
        if prepared.setup.whole:
            guest = replace(guest, user_space=await settled(guest, prepared.setup.whole))
            _say(str(guest.user_space))
        await prepare_state(guest, prepared.setup.first)
        _say(f"{name}: Linux {guest.hello.release} is up after {guest.hello.seconds:.1f} s")
    _say("'help' lists the verbs, 'quit' ends the machine")
    return machine, guest


async def _boot(machine: Machine, stack: contextlib.AsyncExitStack, way: Way) -> Guest | None:
    """Boot the guest for as long as the stack is open; return None if it crashed or never answered."""
    over = asyncio.Event()

    def hear(crash: GuestCrashedError) -> None:
        if crash.crash in FINAL:
            over.set()

    booting = asyncio.create_task(stack.enter_async_context(way(machine)))
    ending = asyncio.create_task(over.wait())
    try:
        with machine.watch.follow(hear):
            both = asyncio.wait({booting, ending}, return_when=asyncio.FIRST_COMPLETED)
            await machine.watch.during(both)
        return booting.result() if booting.done() else None
    except (QemuCrashedError, QemuLostError):
        raise
    except BedError as error:
        explain(error, _say)
        return None
    finally:
        booting.cancel()
        ending.cancel()
        await asyncio.gather(booting, ending, return_exceptions=True)


async def _converse(session: Session, machine: Machine, ask: Ask, *, stop: bool = False) -> None:
    """Run line after line until the user leaves or a line fails; raise QEMU's end if that comes first."""
    this = asyncio.current_task()
    loop = asyncio.get_running_loop()
    while not session.left and not (stop and session.status) and this is not None:
        # at the prompt Ctrl-C is a key; from elsewhere it ends the session
        loop.add_signal_handler(signal.SIGINT, this.cancel)
        line = await machine.watch.during(ask())
        if line is None:
            return
        obeying = asyncio.ensure_future(session.obey(line))
        loop.add_signal_handler(signal.SIGINT, obeying.cancel)
        await _until_obeyed(obeying, session)


async def _until_obeyed(obeying: asyncio.Future[None], session: Session) -> None:
    """Wait for the end of a verb; Ctrl-C has cancelled that alone."""
    try:
        await asyncio.wait({obeying})
        if obeying.cancelled():
            session.interrupted()
        else:
            obeying.result()
    finally:
        obeying.cancel()
        await asyncio.gather(obeying, return_exceptions=True)


def _prompt(name: str, session: Session) -> Ask:
    """Return a function that prompts for a line, and returns None once the user has left."""
    prompt: PromptSession[str] = PromptSession(
        f"{name}> ", completer=SessionCompleter(session.vocabulary), complete_while_typing=False
    )

    async def ask() -> str | None:
        while True:
            try:
                with patch_stdout():
                    return await prompt.prompt_async(handle_sigint=False)
            except KeyboardInterrupt:
                continue  # as in a shell: the line is dropped
            except (EOFError, OSError):
                return None

    return ask


def _script(name: str, stdin: StandardInput) -> Ask:
    """Return what reads the next line of standard input, and shows it as if it had been typed."""

    async def ask() -> str | None:
        line = await stdin.line()
        if line is not None:
            _say(f"{name}> {line}")
        return line

    return ask


class _ConsoleLines:
    """Says what comes from the console, line by line, unless the terminal is the console."""

    def __init__(self, session: Session, *, framed: bool) -> None:
        self._session = session
        #: whether answers to the test bed come on the console too
        self._framed = framed
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def take(self, data: bytes) -> None:
        """Take more bytes of the console's."""
        if self._framed:
            data = without_frames(data)
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        if len(self._rest) > _LONGEST_LINE:
            lines.append(self._rest)
            self._rest = ""
        if not self._session.on_console:
            for line in (each.strip("\r") for each in lines):
                if line or not self._framed:  # behind frames stands an empty line
                    _say(f"console| {line}")


def _say_event(event: Event, session: Session) -> None:
    if not session.on_console:
        _say(f"event| {event.name} {json.dumps(dict(event.data))}")


def _say(text: str) -> None:
    plain(harmless(text))
    sys.stdout.flush()
