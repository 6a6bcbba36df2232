"""Machines without a guest OS, as in tests/qemu; and which tests take long."""

from __future__ import annotations

from tests.qemu.conftest import boot, host, launched, qemu

__all__ = ["boot", "host", "launched", "qemu"]
