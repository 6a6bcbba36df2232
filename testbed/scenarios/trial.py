"""Trial: what a scenario is given, and the line it draws between its starting state and its stimulus.

A scenario is an async function of a Trial. Until it calls `stimulus`, every failure means that no judgement was
possible; from then on what the guest does is judged. It returns a Judgement or raises.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from testbed.actions.hotplug import DEADLINE
from testbed.model.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from testbed.guest.guest import Guest
    from testbed.model.spec import MachineSpec, Slot


@dataclass(kw_only=True)
class Trial:
    """One run of a scenario in one booted guest."""

    guest: Guest
    options: Mapping[str, Any] = field(default_factory=dict)  #: every option of the scenario
    progress: Callable[[str], None] = field(default=lambda _: None)
    #: what was asked of the guest; None while the starting state is being proven
    request: str | None = None
    #: what the machine is made to do that QEMU and the guest would not do by themselves
    modelled: str = ""
    #: for how long the host had given QEMU no CPU when that was asked, in wall seconds
    starved_before: float = 0.0

    @property
    def starved(self) -> float:
        """Return the wall seconds since the stimulus in which the host gave QEMU no CPU; 0 once QEMU is gone."""
        return max(0.0, self.guest.machine.process.starved() - self.starved_before) if self.request else 0.0

    @property
    def deadline(self) -> float:
        """Return the guest seconds that an answer may take."""
        return float(self.options.get("seconds", DEADLINE))

    @property
    def spec(self) -> MachineSpec:
        """Return the machine's description."""
        return self.guest.machine.spec

    def stimulus(self, request: str) -> None:
        """Declare the starting state proven and this request made now."""
        self.request = request
        self.starved_before = self.guest.machine.process.starved()
        self.progress(request)
        journal = self.guest.machine.journal
        journal.step("say", f"stimulus: {request}")
        journal.shell.write("stimulus", {"request": request, "guest_seconds": self.guest.shell.seconds})


def free_slot(spec: MachineSpec) -> Slot:
    """Return the first slot kept free for hot-plug; raise UnsupportedError if there is none."""
    if not spec.slots:
        raise UnsupportedError(
            "the machine has no free slot", hint="give it one: -p ports=4 on q35, -p free_slots=1 on i440fx"
        )
    return spec.slots[0]
