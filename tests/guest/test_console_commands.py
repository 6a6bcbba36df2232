"""Commands by a shell on ttyS0, into which a kernel prints as fast as it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.guest.console.commands import ConsoleCommands
from testbed.guest.console_shell import console_shell
from testbed.model.errors import BrokenError

if TYPE_CHECKING:
    from testbed.pytest_plugin import BootFactory

WORDS = "the quick brown fox jumps over the lazy dog"
#: prints kernel messages for as long as it lives
FLOOD = (
    "dmesg -n 8; echo on >/proc/sys/kernel/printk_devkmsg; "
    f"while :; do echo '<3>{WORDS}' >/dev/kmsg; done >/dev/null 2>&1 & echo $!"
)


async def exact_share(commands: ConsoleCommands, count: int) -> float:
    """Return the share of so many commands whose output, complaint and status came exactly."""
    exact = 0
    for number in range(count):
        result = await commands.run(f"echo {number}; echo e{number} >&2; exit {number % 100}")
        exact += (result.text, result.error, result.status) == (f"{number}", f"e{number}", number % 100)
    return exact / count


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(25, marks=pytest.mark.seconds(25)),
        pytest.param(1000, marks=[pytest.mark.extended, pytest.mark.seconds(400)]),
    ],
)
async def test_answers_are_exact_while_the_kernel_floods_the_console(testbed_boot: BootFactory, count: int) -> None:
    async with testbed_boot() as guest, console_shell(guest):
        commands = ConsoleCommands(guest.machine)
        await commands.begin()
        with pytest.raises(BrokenError, match="'sleep 60' did not end within 1 s"):
            await commands.ask("sleep 60", seconds=1)
        flood = (await commands.run(FLOOD)).text
        before = guest.machine.console.written().count(WORDS.encode())
        assert await exact_share(commands, count) == 1
        assert guest.machine.console.written().count(WORDS.encode()) > before + count
        numbers = await commands.run("seq 3000")
        assert numbers.text.split() == [str(number) for number in range(1, 3001)]
        assert (await commands.run(f"kill {flood}")).status == 0
