"""What a user's own scenario and test need, in one place.

from testbed.api import Finding, Judgement, Trial, Verdict, scenario
"""

from testbed.actions.aer import inject
from testbed.actions.bus_device import plug_on_bus, unplug_from_bus
from testbed.actions.hotplug import PlugOutcome, add_device, add_parts, plug, release_backends, rescan
from testbed.actions.injection import InjectionVerdict, Route
from testbed.actions.sriov import pf_of, set_vfs
from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.device_proof import await_device, prove_device
from testbed.guest.disk import await_disk, find_disk, prove_disk
from testbed.guest.drivers import load_drivers
from testbed.guest.guest import Guest
from testbed.guest.hotplug_control import read_control
from testbed.guest.level2 import Level2
from testbed.guest.pci import address_of
from testbed.guest.reset import reset
from testbed.guest.shell import Result, Shell
from testbed.machine.channel import Channel
from testbed.machine.launch import Machine
from testbed.machine.qmp import Event, Qmp
from testbed.model.aer import ErrorSeverity
from testbed.model.device_kind import DeviceParts, device_kind, hot_device
from testbed.model.errors import (
    BrokenError,
    ChannelError,
    GuestCrashedError,
    InputError,
    RefusedError,
    UnsupportedError,
)
from testbed.model.kernel_log import Crash
from testbed.model.outcome import Cell, Finding, Judgement, Outcome, Verdict
from testbed.model.parameter import Parameter
from testbed.model.pci import Bdf
from testbed.model.setup import Setup
from testbed.model.spec import Device, Disk, Network, Slot
from testbed.scenarios.load import start_load
from testbed.scenarios.load_kinds import Fate
from testbed.scenarios.scenario import Scenario, scenario
from testbed.scenarios.starting_state import cold_device
from testbed.scenarios.trial import Trial, free_slot
from testbed.verbs.answer import Answer
from testbed.verbs.verbs import Verbs

__all__ = [
    "Answer",
    "Bdf",
    "BrokenError",
    "Cell",
    "Channel",
    "ChannelError",
    "Crash",
    "Device",
    "DeviceParts",
    "Disk",
    "ErrorSeverity",
    "Event",
    "Fate",
    "Finding",
    "Guest",
    "GuestCrashedError",
    "InjectionVerdict",
    "InputError",
    "Judgement",
    "Level2",
    "Machine",
    "Network",
    "Outcome",
    "Parameter",
    "PlugOutcome",
    "Qmp",
    "RefusedError",
    "Result",
    "Route",
    "Scenario",
    "Setup",
    "Shell",
    "Slot",
    "Trial",
    "UnplugOutcome",
    "UnsupportedError",
    "Verbs",
    "Verdict",
    "add_device",
    "add_parts",
    "address_of",
    "await_device",
    "await_disk",
    "cold_device",
    "device_kind",
    "find_disk",
    "free_slot",
    "hot_device",
    "inject",
    "load_drivers",
    "pf_of",
    "plug",
    "plug_on_bus",
    "prove_device",
    "prove_disk",
    "read_control",
    "release_backends",
    "rescan",
    "reset",
    "scenario",
    "set_vfs",
    "start_load",
    "unplug",
    "unplug_from_bus",
]
