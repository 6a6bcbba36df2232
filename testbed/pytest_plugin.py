"""The pytest plugin: boot guests and judge scenarios in anybody's tests.

Fixtures
    testbed_boot    factory: `async with testbed_boot("q35", parameters={"hotplug": "native"}) as guest:`
    testbed_run     judge a scenario: `await testbed_run("disk-unplug", machine="q35", cmdline="pcie_aspm=off")`;
                    `bad` fails the test with its findings, `broken` is an error, `skip` skips
    testbed_try     the same, but returns the Outcome whatever it is
    testbed_guest   one guest for a whole module, described by `pytestmark = pytest.mark.testbed("q35", …)`

Markers
    testbed(machine, …)         what testbed_guest boots; the arguments of testbed_boot
    testbed_needs(…)            skip where the QEMU at hand lacks something: device=, machine_type=

Nothing of the test bed is imported before a fixture asks for it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from testbed.guest.guest import Guest
    from testbed.model.outcome import Outcome
    from testbed.model.setup import Setup

try:
    import pytest_asyncio
except ImportError:  # pragma: no cover (an extra: the plugin must not break other people's pytest)
    pytest_asyncio = None  # type: ignore[assignment]


#: the attribute of a report whose test could not be judged
_BROKEN = "testbed_broken"


class BootFactory(Protocol):
    """Boots a machine; yields its guest, ends it afterwards."""

    def __call__(
        self,
        machine: str = "q35",
        *,
        parameters: dict[str, Any] | None = None,
        cmdline: str = "",
        image: str = "debian",
        qemu: str = "",
        accel: str = "auto",
        first: str = "",
        whole: str = "",
        via: str = "agent",
        login: str = "",
    ) -> AbstractAsyncContextManager[Guest]:
        """Boot a machine (a template, or `q35[hotplug=native]`) with these parameters and this kernel command line."""


class Judge(Protocol):
    """Runs a scenario on a machine."""

    async def __call__(self, scenario: str, machine: str = "q35", **cell: Any) -> Outcome:
        """Run a scenario; `cell` takes the fields of a setup, options and expected."""


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    config.addinivalue_line("markers", "testbed(machine, **cell): what the module's testbed_guest boots")
    config.addinivalue_line("markers", "testbed_needs(device=, machine_type=): skip where QEMU lacks it")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Run the tests of a module-wide guest in that module's event loop."""
    if "testbed_guest" in getattr(item, "fixturenames", ()):
        # before the marker of auto mode, which has no scope
        item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose machine is not available here."""
    for marker in item.iter_markers("testbed_needs"):
        _check_needs(**marker.kwargs)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skip of what cannot run here, and mark what could not be judged as an error."""
    report = yield
    if call.excinfo is None or not report.failed:
        return report
    from testbed.model.errors import BrokenError, UnsupportedError

    error = call.excinfo.value
    if isinstance(error, UnsupportedError):
        report.outcome = "skipped"
        path, line, _ = item.location
        report.longrepr = (path, (line or 0) + 1, f"Skipped: {error}")
    elif isinstance(error, BrokenError):
        vars(report)[_BROKEN] = True
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Call a test that could not be judged an error, not a failure."""
    return ("error", "E", "ERROR") if getattr(report, _BROKEN, False) else None


@pytest.fixture
def testbed_boot(tmp_path: Path) -> BootFactory:
    """Return a factory of booted guests."""
    return _boot_factory(tmp_path)


@pytest.fixture
def testbed_try(tmp_path: Path) -> Judge:
    """Return a function that runs a scenario and returns its outcome."""
    count = iter(range(1, 1000))

    async def judged(scenario: str, machine: str = "q35", **cell: Any) -> Outcome:
        from testbed.campaign.cell.run import run_cell
        from testbed.campaign.prepared import prepare_cell
        from testbed.host.host import LocalHost
        from testbed.model.outcome import Cell
        from testbed.model.setup import Setup

        question = {name: cell.pop(name) for name in Cell.model_fields.keys() - Setup.model_fields if name in cell}
        setup = _setup(machine, cell.pop("parameters", None), cell)
        prepared = prepare_cell(Cell.of(setup, scenario, **question), progress=_quiet)
        async with _slot(), LocalHost() as host:
            return await run_cell(prepared, host=host, rundir=tmp_path / f"cell{next(count)}", progress=_quiet)

    return judged


@pytest.fixture
def testbed_run(testbed_try: Judge) -> Judge:
    """Return a function that runs a scenario and fails the test unless its verdict is the expected one."""

    async def judged(scenario: str, machine: str = "q35", **cell: Any) -> Outcome:
        outcome = await testbed_try(scenario, machine, **cell)
        _check(outcome)
        return outcome

    return judged


if pytest_asyncio is not None:

    @pytest_asyncio.fixture(scope="module", loop_scope="module")
    async def testbed_guest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
        """Yield one guest for all tests of the module; `pytest.mark.testbed(...)` says which."""
        marker = request.node.get_closest_marker("testbed")
        arguments, options = (marker.args, marker.kwargs) if marker else ((), {})
        folder = tmp_path_factory.mktemp("testbed_guest")
        async with _boot_factory(folder)(*arguments, **options) as guest:
            yield guest


def _boot_factory(folder: Path) -> BootFactory:
    count = iter(range(1, 1000))

    @contextlib.asynccontextmanager
    async def boots(
        machine: str = "q35", *, parameters: dict[str, Any] | None = None, **fields: Any
    ) -> AsyncIterator[Guest]:
        from testbed.campaign.prepared import booted, prepare
        from testbed.host.host import LocalHost

        prepared = prepare(_setup(machine, parameters, fields), progress=_quiet)
        rundir = folder / f"machine{next(count)}"
        rundir.mkdir()
        # one slot for as long as the test has its guests: it makes them work
        async with (
            _slot(),
            LocalHost() as host,
            booted(
                prepared, host, rundir, title=f"pytest: {machine}", drivers=False, slot=contextlib.nullcontext()
            ) as guest,
        ):
            yield guest

    return boots


def _setup(machine: str, parameters: dict[str, Any] | None, fields: dict[str, Any]) -> Setup:
    """Return the setup that a fixture's arguments say."""
    from testbed.campaign.disk_line import with_disk_line
    from testbed.campaign.setups import read_one_setup
    from testbed.model.setup import Setup

    setup = read_one_setup(machine)
    merged = {**setup.fields(), **fields, "parameters": {**setup.parameters, **(parameters or {})}}
    return with_disk_line(Setup.model_validate(merged))


#: guests of this process; they share one slot, so that a test with two guests cannot wait for itself
_guests = 0
_held = contextlib.AsyncExitStack()


@contextlib.asynccontextmanager
async def _slot() -> AsyncIterator[None]:
    """Hold this process's guest slot while it has a guest."""
    from testbed.host.slots import core_count, guest_slot

    global _guests  # noqa: PLW0603 (a slot belongs to the process)
    _guests += 1
    try:
        if _guests == 1:
            await _held.enter_async_context(guest_slot(count=core_count()))
        yield
    finally:
        _guests -= 1
        if _guests == 0:
            await _held.aclose()


def _check(outcome: Outcome) -> None:
    """Turn a verdict into pytest's words."""
    from testbed.model.errors import BrokenError
    from testbed.model.outcome import Verdict
    from testbed.model.printable import harmless

    if outcome.as_expected:
        return
    text = harmless(explain(outcome))
    if outcome.verdict is Verdict.SKIP:
        pytest.skip(harmless(outcome.reason))
    if outcome.verdict is Verdict.BROKEN:
        raise BrokenError(text, hint=outcome.hint)
    pytest.fail(text, pytrace=False)


def explain(outcome: Outcome) -> str:
    """Return a verdict with its findings and where its logs are."""
    findings = (
        f"  {each.subject}: expected {each.expected}; observed {each.observed} [{each.evidence}]"
        for each in outcome.findings
    )
    head = f"{outcome.id}: {outcome.disagreement or outcome.verdict}: {outcome.reason}"
    return "\n".join((head, *findings, f"  logs: {outcome.rundir}"))


def _check_needs(*, device: str = "", machine_type: str = "", qemu: str = "") -> None:
    from testbed.host.qemu import find_qemu

    binary = find_qemu(qemu)
    if device and device not in binary.drivers:
        pytest.skip(f"{binary.path} {binary.version} has no device {device}")
    if machine_type and machine_type not in binary.machine_types:
        pytest.skip(f"{binary.path} {binary.version} has no machine type {machine_type}")


def _quiet(_: str) -> None:
    """Take no progress: pytest has its own."""
