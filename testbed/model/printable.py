"""What may be shown on a terminal of what a guest, a QEMU or a customer's file says."""

from __future__ import annotations


def harmless(text: str) -> str:
    """Return text with every control character spelled out, so that it cannot steer a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\t\n" else ascii(char)[1:-1] for char in text)
