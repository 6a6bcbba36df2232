"""A live migration in the midst of another question: `-s migrate=before|pending` and `-s to=QEMU`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from testbed.guest.migration import migrate_guest
from testbed.host.qemu import find_qemu
from testbed.machine.launch import check_spec
from testbed.model.errors import InputError, UnsupportedError
from testbed.model.outcome import Finding
from testbed.model.parameter import Parameter
from testbed.scenarios.scenario import LOADS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from testbed.host.qemu import Qemu
    from testbed.machine.migration import Migrated
    from testbed.model.device_kind import DeviceParts
    from testbed.model.outcome import Judgement
    from testbed.model.spec import MachineSpec
    from testbed.scenarios.trial import Trial

NEVER, BEFORE, PENDING = "never", "before", "pending"
TO_OPTION = Parameter(type="str", default="", doc="the QEMU to which it migrates; empty: another process of the same")
MIGRATION_OPTIONS = {
    "migrate": Parameter(
        type="str",
        default=NEVER,
        choices=[NEVER, BEFORE, PENDING],
        doc="when the guest migrates to a second QEMU: before the request, or while it is pending",
    ),
    "to": TO_OPTION,
}


def check_migration(spec: MachineSpec, qemu: Qemu, options: Mapping[str, Any]) -> None:
    """Raise InputError for options that do not go together, and for a destination that lacks what the machine has."""
    if options["migrate"] == NEVER:
        if options["to"]:
            raise InputError("to: nothing migrates there", hint="say when: -s migrate=before, or pending")
        return
    if options.get("load", LOADS[0]) != LOADS[0]:
        raise InputError(
            f"load: {options['load']}: nothing is kept busy across a migration", hint="leave one of them out"
        )
    check_spec(spec, destination_qemu(options, qemu))


def destination_qemu(options: Mapping[str, Any], qemu: Qemu) -> Qemu:
    """Return the QEMU to which a guest migrates; raise LackingError if this host has none of that name."""
    return find_qemu(options["to"]) if options["to"] else qemu


class Migration:
    """The migration that a trial's options ask for; it may be none."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._migrated: Migrated | None = None

    async def before(self, *plugged: DeviceParts) -> None:
        """Migrate now if the request is still to come; `plugged` is what the machine has beside its description."""
        await self._now(BEFORE, plugged)

    def pending(self, *plugged: DeviceParts) -> Callable[[], Awaitable[None]] | None:
        """Return what migrates while the request is pending, with the machine stopped; None if nothing does."""
        return partial(self._now, PENDING, plugged) if self._trial.options["migrate"] == PENDING else None

    def check_pending(self, *, by_qemu: bool) -> None:
        """Raise UnsupportedError if an error was to be pending and QEMU's device did not send it."""
        if self._trial.options["migrate"] == PENDING and not by_qemu:
            raise UnsupportedError(
                "migrate=pending: QEMU's device sends no such error, and the guest's injector leaves none pending"
            )

    def told(self, judgement: Judgement) -> Judgement:
        """Return a judgement with what there is to say of the migration, if there was one."""
        if self._migrated is None:
            return judgement
        findings = (migration_finding(self._migrated), *judgement.findings)
        return judgement.model_copy(update={"findings": findings})

    async def _now(self, when: str, plugged: tuple[DeviceParts, ...]) -> None:
        trial = self._trial
        if trial.options["migrate"] != when:
            return
        trial.progress("migrating")
        qemu = destination_qemu(trial.options, trial.guest.machine.qemu)
        self._migrated = await migrate_guest(trial.guest, grown(trial.spec, *plugged), qemu)


def grown(spec: MachineSpec, *plugged: DeviceParts) -> MachineSpec:
    """Return the description of a machine to which devices were added as if it had begun with them."""
    taken = {(each.device.bus, each.device.addr) for each in plugged}
    update = {
        "devices": [*spec.devices, *(device for each in plugged for device in (each.device, *each.children))],
        "disks": [*spec.disks, *(each.disk for each in plugged if each.disk)],
        "networks": [*spec.networks, *(each.network for each in plugged if each.network)],
        "slots": [slot for slot in spec.slots if (slot.bus, slot.addr) not in taken],
    }
    return spec.model_copy(update=update)


def migration_finding(migrated: Migrated) -> Finding:
    """Return that the guest goes on elsewhere."""
    return Finding(
        subject="migration",
        expected="the guest runs on the destination",
        observed=str(migrated),
        evidence=migrated.evidence,
    )
