"""What a user's own scenario and test need, in one place.

from testbed.api import Finding, Judgement, Trial, Verdict, scenario
"""

from testbed.actions.hotplug import PlugOutcome, UnplugOutcome, plug, rescan, unplug
from testbed.guest.disk import find_disk, prove_disk
from testbed.guest.guest import Guest
from testbed.guest.hotplug_control import read_control
from testbed.guest.shell import Result, Shell
from testbed.machine.launch import Machine
from testbed.model.errors import BrokenError, GuestCrashedError, RefusedError, UnsupportedError
from testbed.model.kernel_log import Crash
from testbed.model.outcome import Cell, Finding, Judgement, Outcome, Verdict
from testbed.model.pci import Bdf
from testbed.model.spec import Device, Disk, Network, Slot
from testbed.scenarios.scenario import Scenario, scenario
from testbed.scenarios.trial import Trial, first_disk, free_slot

__all__ = [
    "Bdf",
    "BrokenError",
    "Cell",
    "Crash",
    "Device",
    "Disk",
    "Finding",
    "Guest",
    "GuestCrashedError",
    "Judgement",
    "Machine",
    "Network",
    "Outcome",
    "PlugOutcome",
    "RefusedError",
    "Result",
    "Scenario",
    "Shell",
    "Slot",
    "Trial",
    "UnplugOutcome",
    "UnsupportedError",
    "Verdict",
    "find_disk",
    "first_disk",
    "free_slot",
    "plug",
    "prove_disk",
    "read_control",
    "rescan",
    "scenario",
    "unplug",
]
