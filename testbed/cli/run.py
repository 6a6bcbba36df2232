"""`testbed run`: cases, and scenarios on a machine of the user's choice."""

from __future__ import annotations

from typing import Annotated

import typer

from testbed.campaign.offers import case_offers, scenario_offers
from testbed.cli.options import RUNS, Jobs, Keep, Options, PaceOptions, ReportOptions, Rundir, SetupOptions, spliced
from testbed.model.catalog import CASES
from testbed.model.errors import InputError

_KEEP = "Keep machines with this verdict alive to attach to; one guest at a time."
_L2_IMAGE = "An image whose kernel L2 machines boot; their own by default."
_GIT_BISECT = "Exit codes for `git bisect run`: a guest that does not boot is 125."


def _offered() -> list[str]:
    """Return what a shell completes."""
    return [offer.name for offer in (*case_offers(), *scenario_offers())]


@spliced
def run(
    setup: SetupOptions,
    pace: PaceOptions,
    reports: ReportOptions,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="CASE|SCENARIO|CELL...", show_default=False, autocompletion=_offered),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Run every case.")] = False,
    machine: Annotated[str, typer.Option("--machine", "-m", help="Machine, for scenarios: q35 by default.")] = "",
    option: Options = None,
    l2_image: Annotated[str, typer.Option("--l2-image", help=_L2_IMAGE, show_default=False)] = "",
    jobs: Jobs = None,
    rundir: Rundir = RUNS,
    keep: Annotated[Keep | None, typer.Option(help=_KEEP, show_default=False)] = None,
    git_bisect: Annotated[bool, typer.Option("--git-bisect", help=_GIT_BISECT)] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every finding and its evidence.")] = False,
) -> None:
    """Run documented cases, or scenarios on a machine of your choice, and judge what the guest did.

    A cell is named as a run prints it: 'disk-unplug q35\\[hotplug=native] pcie_aspm=off'.
    """
    # half of what --help and a completion would take
    from testbed.cli.run_request import Request, paced, run_named  # noqa: PLC0415

    chosen = [*(names or []), *(CASES.names() if every else [])]
    if not chosen:
        raise InputError("run: nothing to run", hint="name a case or a scenario (see: testbed list), or give --all")
    request = Request(machine=machine, setup=setup, options=option or [], pace=paced(pace, keep), l2_image=l2_image)
    code = run_named(
        chosen,
        request,
        reports=reports,
        rundir=rundir,
        jobs=jobs,
        keep=keep,
        git_bisect=git_bisect,
        verbose=verbose,
    )
    raise typer.Exit(code)
