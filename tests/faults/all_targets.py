"""Every reader: importing this fills the table."""

from tests.faults import console_targets, targets
from tests.faults.target import TARGETS

__all__ = ["TARGETS", "console_targets", "targets"]
