"""Start: how a cell's guest comes to its shell: resumed from a saved state, or booted, and then saved for the next.

Cells that share everything up to the shell share one boot: the first holds the key until it has saved its guest, the
others wait for that. Whatever is wrong with a saved state, the cell boots fresh and says so.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from testbed.guest.console.guest import boot_by_loader
from testbed.guest.console.own_boot import unspoken
from testbed.guest.drivers import load_drivers
from testbed.guest.guest import boot, prepare_state
from testbed.guest.level2 import idle_level2
from testbed.guest.user_space import settled
from testbed.guest.warm import resume, save_guest
from testbed.machine.argv import Channels, qemu_argv
from testbed.machine.snapshot_store import SnapshotStore, snapshot_key
from testbed.machine.system_disk import OVERLAY
from testbed.model.errors import SnapshotError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from testbed.campaign.prepared import PreparedCell
    from testbed.guest.guest import Guest
    from testbed.machine.launch import Machine
    from testbed.machine.snapshot_store import Snapshot


class Start(Protocol):
    """One way to a guest's shell."""

    @property
    def kind(self) -> Literal["fresh", "warm"]:
        """Return the word for it in outcomes."""

    @property
    def overlay(self) -> Path | None:
        """Return what the guest had written to its system's disk by then, if there is that."""

    def guest(self, machine: Machine) -> AbstractAsyncContextManager[Guest]:
        """Bring the guest of a launched machine to its shell."""


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """A boot; the guest is saved if it has a key."""

    prepared: PreparedCell
    kind: Literal["fresh"] = "fresh"
    overlay: None = None
    #: is told why the guest could not be saved
    note: Callable[[str], None] = lambda _: None
    store: SnapshotStore | None = None
    key: str = ""
    #: lets those go on who wait for the snapshot, made or not
    release: Callable[[], None] = lambda: None

    @contextlib.asynccontextmanager
    async def guest(self, machine: Machine) -> AsyncIterator[Guest]:
        """Boot, bring the guest to its starting state, and save it."""
        scenario = self.prepared.scenario
        async with contextlib.AsyncExitStack() as stack:
            guest = await stack.enter_async_context(boot(machine))
            if scenario.modules:
                await guest.load_modules(*scenario.modules)
            if self.prepared.setup.whole:
                guest = replace(guest, user_space=await settled(guest, self.prepared.setup.whole))
            elif scenario.drivers:
                await load_drivers(guest)
            if self.prepared.level2:
                guest = await stack.enter_async_context(idle_level2(guest, self.prepared.level2))
            await prepare_state(guest, self.prepared.setup.first)
            if self.store is not None:
                # without a snapshot the next cell boots too, and loses nothing but time
                try:
                    await save_guest(guest, self.store, self.key)
                except SnapshotError as error:
                    self.note(str(error))
            self.release()
            yield guest


@dataclass(frozen=True, kw_only=True)
class ByLoader:
    """A boot by the disk's own loader, to a shell on its console, unless the scenario follows it itself."""

    prepared: PreparedCell
    kind: Literal["fresh"] = "fresh"
    overlay: None = None

    @contextlib.asynccontextmanager
    async def guest(self, machine: Machine) -> AsyncIterator[Guest]:
        """Bring the guest to its starting state, or leave the machine before its first instruction."""
        if self.prepared.scenario.by_loader:
            async with unspoken(machine) as guest:
                yield guest
            return
        async with boot_by_loader(machine) as up:
            whole = self.prepared.setup.whole
            guest = replace(up, user_space=await settled(up, whole)) if whole else up
            await prepare_state(guest, self.prepared.setup.first)
            yield guest


@dataclass(frozen=True, kw_only=True)
class Warm:
    """A saved state."""

    prepared: PreparedCell
    snapshot: Snapshot
    kind: Literal["warm"] = "warm"

    @property
    def overlay(self) -> Path | None:
        """Return what the guest had written to its system's disk."""
        return self.snapshot.folder / OVERLAY if self.prepared.system else None

    def guest(self, machine: Machine) -> AbstractAsyncContextManager[Guest]:
        """Resume the guest; raise SnapshotError if it cannot be."""
        return resume(machine, self.snapshot, self.prepared.level2)


@contextlib.asynccontextmanager
async def chosen_start(
    prepared: PreparedCell, store: SnapshotStore | None, *, note: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Start]:
    """Yield the way this cell goes: warm if its state is saved, else fresh, with the key held until it is.

    `note` receives whatever deserves a line in the outcome.
    """
    if prepared.built is None:
        yield ByLoader(prepared=prepared)
        return
    key = start_key(prepared) if store is not None else None
    if store is None or key is None:
        yield Fresh(prepared=prepared)
        return
    async with store.locked(key) as release:
        snapshot = store.find(key)
        if snapshot is None:
            yield Fresh(prepared=prepared, store=store, key=key, release=release, note=note)
            return
    yield Warm(prepared=prepared, snapshot=snapshot)


def start_key(prepared: PreparedCell) -> str | None:
    """Return the key of the cell's state at its shell, or None if that cannot or must not be kept."""
    scenario = prepared.scenario
    if scenario.fresh or prepared.loaded or prepared.built is None:
        return None
    argv = qemu_argv(
        spec=prepared.spec,
        boot=prepared.boot,
        # names for what differs from run to run
        channels=Channels.called(prepared.spec, "{}"),
        qemu=prepared.qemu,
        accel=prepared.accel,
        folder=Path("rundir"),
        warped=prepared.warped,
    )
    level2 = prepared.level2.key if prepared.level2 else ""
    drivers = ["all drivers"] if scenario.drivers else []
    state = [prepared.image.id, *scenario.modules, *drivers, level2, prepared.setup.first]
    state += prepared.firmware.hashes if prepared.firmware else []
    state += [prepared.system.digest, prepared.setup.whole] if prepared.system else []
    return snapshot_key(argv, spec=prepared.spec, qemu=prepared.qemu, accel=prepared.accel, state=state)
