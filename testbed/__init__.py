"""QEMU/KVM guest-behaviour test bed."""

__version__ = "0.1.0"
