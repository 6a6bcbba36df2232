"""Guest: the OS inside a running machine, from its first words to the last verb."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.guest.shell import Shell
from testbed.model.errors import BootError, BrokenError, GuestCrashedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from testbed.guest.shell import Hello
    from testbed.guest.user_space import UserSpace
    from testbed.machine.argv import Boot
    from testbed.machine.launch import Machine

PROTOCOL = "1"
#: wall seconds; a boot takes 2 to 10 s, and on a busy host ten times that
BOOT_LIMIT = 240.0
#: what OVMF adds for the kernel's EFI stub (edk2, OvmfPkg/Library/GenericQemuLoadImageLib)
_EFI_INITRD = " initrd=initrd"
_HINT = "see console.log in the rundir; some lines need more memory: -p memory=1024"


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A booted guest."""

    machine: Machine
    shell: Shell
    hello: Hello
    #: whether the test bed's own process answers in it
    agent: bool = True
    #: a machine that ran in this one before the scenario began
    level2: Guest | None = None
    #: what runs in it, if that is not the test bed's own
    user_space: UserSpace | None = None

    async def act(self, command: str) -> str:
        """Run a command that is part of the experiment: it must succeed, and a reproduction repeats it."""
        self.machine.journal.step("guest", command)
        return await self.shell.succeed(command)

    @contextlib.asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """Stop the machine for as long as this is open; nothing is under way to the bed or to the guest meanwhile."""
        await self.shell.catch_up()
        await self.machine.qmp.execute_unrepeated("stop")
        try:
            yield
        finally:
            await self.machine.qmp.execute_unrepeated("cont")

    async def load_modules(self, *names: str) -> None:
        """Load drivers; built-in ones count as loaded, a missing one raises BrokenError."""
        command = f"modprobe -a {' '.join(names)}"
        self.machine.journal.step("guest", command)
        # a program takes long to start under TCG, and mostly there is nothing to load
        loaded = await show(self, *(f"/sys/module/{name}/initstate" for name in names))
        if any(loaded.text(f"/sys/module/{name}/initstate") != "live" for name in names):
            await self.shell.succeed(command)


@contextlib.asynccontextmanager
async def boot(machine: Machine) -> AsyncIterator[Guest]:
    """Let a machine run until its guest's shell answers, and yield the guest.

    Raises BootError with the console's last lines if it does not, and BrokenError if the guest got another command line
    than it was given.
    """
    async with Shell(machine) as shell:
        await machine.qmp.execute("cont")
        try:
            async with asyncio.timeout(BOOT_LIMIT):
                hello = await shell.hello()
        except GuestCrashedError as crash:
            raise BootError(f"boot: {crash.message} ({crash.evidence})", hint=_HINT) from None
        except TimeoutError:
            raise BootError(
                f"boot: the guest's shell did not answer within {BOOT_LIMIT:.0f} s; last on the console:\n"
                f"{machine.console.tail() or '(nothing)'}",
                hint=_HINT,
            ) from None
        _check(hello, machine.boot)
        yield Guest(machine=machine, shell=shell, hello=hello)


async def prepare_state(guest: Guest, command: str) -> None:
    """Run the guest command that prepares the starting state, if there is one; raise BrokenError if it fails."""
    if not command:
        return
    try:
        await guest.act(command)
    except BrokenError as error:
        raise BrokenError(f"preparing the starting state: {error.message}", hint="it was given as --first") from None


def _check(hello: Hello, boot: Boot) -> None:
    if hello.protocol != PROTOCOL:
        raise BrokenError(
            f"boot: the image's init speaks protocol {hello.protocol}, this test bed {PROTOCOL}",
            hint="rebuild it: testbed image build NAME --refresh",
        )
    if hello.trouble:
        raise BootError(
            f"--whole: {hello.trouble}", hint="see console.log in the rundir; without --whole its kernel can run"
        )
    seen = hello.cmdline.removesuffix(_EFI_INITRD) if boot.firmware else hello.cmdline
    if seen != boot.cmdline:
        raise BrokenError(
            f"boot: /proc/cmdline is {hello.cmdline!r}, the machine was given {boot.cmdline!r}",
            hint="is a command line built into this kernel (CONFIG_CMDLINE)?",
        )
