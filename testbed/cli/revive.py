"""`testbed revive`: a VM that QEMU stopped is reset and continued, by whoever watches its QMP socket."""

from __future__ import annotations

import asyncio
import datetime
import json
from typing import Annotated

import typer
from rich.markup import escape

from testbed.cli.options import AsJson
from testbed.cli.terminal import out
from testbed.machine.revival import INTERNAL_ERROR, STATES, Stop, stops
from testbed.model.catalog import unknown

Address = str | tuple[str, int]


def revive(
    socket: Annotated[str, typer.Argument(help="QMP socket of a running QEMU: a path, or HOST:PORT.")],
    on: Annotated[
        list[str] | None, typer.Option(help="Run state to react to. Repeat it; internal-error by default.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Give up when it stops again after this many resets.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Watch a running QEMU, and reset and continue its VM whenever a device error stops it.

    A VM that has a PCI function is stopped (run state internal-error) when the host reports an uncorrected error of the
    device. It loses what it has not written. Ends with 0 when QEMU ends, and 128 when the VM stops once too often.
    """
    states = on or [INTERNAL_ERROR]
    if wrong := [each for each in states if each not in STATES]:
        raise unknown("run state", wrong[0], STATES)
    asyncio.run(_watch(_address(socket), states, most, as_json=as_json))


async def _watch(address: Address, on: list[str], most: int, *, as_json: bool) -> None:
    async for stop in stops(address, wanted=on, most=most):
        now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
        if as_json:
            typer.echo(json.dumps({"time": now, "status": stop.status, "revived": stop.revived}))
        else:
            out.print(f"{now} {escape(_told(stop, most))}", highlight=False, soft_wrap=True)


def _told(stop: Stop, most: int) -> str:
    done = f"reset and continued ({stop.revived} of {most})" if stop.revived else "left alone"
    return f"stopped: {stop.status}; {done}"


def _address(socket: str) -> Address:
    """Return a socket's address: what has no slash and ends with a number is HOST:PORT."""
    host, colon, port = socket.rpartition(":")
    return (host, int(port)) if colon and host and "/" not in socket and port.isdecimal() else socket
