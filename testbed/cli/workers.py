"""Who runs the cells of a matrix or an atlas: this host, or the workers of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from testbed.campaign.execution.local import LocalExecutor
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from testbed.campaign.execution.executor import Executor

WorkersName = Annotated[str, typer.Option("--workers", help="Run the cells on a Dask cluster: dask:tcp://HOST:PORT.")]


def executor_for(workers: str, *, jobs: int, limit: float, kvm: bool, console: Console) -> Executor:
    """Return who runs the cells: this host, or a Dask cluster, which is asked for KVM if some cell wants it.

    Raises InputError for what names no cluster, or without the extra `dask`.
    """
    if not workers:
        return LocalExecutor(jobs=jobs, limit=limit)
    kind, _, address = workers.partition(":")
    if kind != "dask" or "://" not in address:
        raise InputError(
            f"--workers {workers!r}: is not a cluster", hint="for example: --workers dask:tcp://localhost:8786"
        )
    try:
        # an extra, and slow to import
        from testbed.campaign.execution.cluster.dask_executor import DaskExecutor  # noqa: PLC0415
    except ImportError as error:
        raise InputError(f"--workers {workers}: {error}", hint="pip install 'testbed[dask]'") from None

    def tell(message: str) -> None:
        console.print(f"[dim]{escape(message)}[/dim]", highlight=False, soft_wrap=True)

    return DaskExecutor(address, limit=limit, kvm=kvm, tell=tell)
