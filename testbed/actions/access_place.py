"""Where in a guest an access is made: the instruction, or the kernel's function, at which a model can hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.register import Route
from testbed.machine.stall_place import Place
from testbed.model.bar import Space as BarSpace
from testbed.model.errors import InputError, UnsupportedError
from testbed.model.mmio_record import Direction, Space
from testbed.model.stall import StallKind

if TYPE_CHECKING:
    from testbed.actions.register import Register
    from testbed.guest.guest import Guest
    from testbed.model.stall import Stall

PROGRAM = "mmio-probe"
#: Linux mm/memory.c, generic_access_phys(), which /proc/PID/mem comes to, calls one of them; and the register that has
#: the virtual address of its MMIO side (arch/x86/lib/iomem.c)
_KERNEL = {Direction.READ: ("memcpy_fromio", "rsi"), Direction.WRITE: ("memcpy_toio", "rdi")}
#: the names of the program's instructions by route
_INSTRUCTIONS = {Route.USER: "user", Route.PIO: "port"}


def check_stall(stall: Stall, register: Register) -> None:
    """Raise InputError if accesses to this register cannot be modelled."""
    route = register.access.route
    by_kernel = route is Route.KERNEL and register.space is BarSpace.MEMORY
    if not stall.on or not stall.concerns(register.access.direction):
        return
    if not by_kernel and route not in _INSTRUCTIONS:
        raise InputError(f"stall {stall}: a {register.access} cannot be modelled", hint="--route user, or pio")
    if by_kernel and stall.kind is StallKind.FOR:
        words = "guest time stops while the kernel is held"
        raise InputError(f"stall {stall}: {words}", hint="hold a process: --route user; or the kernel for ever: always")


async def find_place(guest: Guest, register: Register) -> Place:
    """Return where the access to a register is made; raise UnsupportedError if the kernel does not say."""
    access = register.access
    if access.route is Route.KERNEL:
        return await _kernel_place(guest, register)
    name = f"{_INSTRUCTIONS[access.route]}_{access.direction}{access.width}"
    rows = (line.split() for line in (await guest.shell.succeed(f"{PROGRAM} addresses")).splitlines())
    address, pause = next((int(address, 16), int(pause, 16)) for each, address, pause in rows if each == name)
    space = Space.PIO if access.route is Route.PIO else Space.MMIO
    return Place(name=name, address=address, pause=pause, space=space)


async def _kernel_place(guest: Guest, register: Register) -> Place:
    function, operand = _KERNEL[register.access.direction]
    symbol = await guest.shell.run(f"grep -m 1 ' {function}$' /proc/kallsyms")
    address = int(symbol.text.split()[0], 16) if symbol.status == 0 else 0
    if not address:
        raise UnsupportedError(f"the kernel's access cannot be held: /proc/kallsyms does not say where {function} is")
    within = range(register.gpa, register.gpa + register.access.width)
    return Place(name=function, address=address, pause=address, operand=operand, within=within)
