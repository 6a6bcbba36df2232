"""Packets of GDB's remote serial protocol, as far as QEMU's stub and this test bed speak it.

Source: the GDB manual, appendix "GDB Remote Serial Protocol"; QEMU target/i386/gdbstub.c for the order of registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ESCAPED = frozenset(b"#$}*")
#: what follows `*` is the count of repetitions plus this
_RUN = 29
#: no answer of QEMU's is longer; a stream that is no such protocol must not fill the memory
_LONGEST = 1 << 16

#: x86-64 registers in a `g` answer: name, place and size in bytes (QEMU 4.0 and later)
_REGISTERS = {
    **{name: (8 * n, 8) for n, name in enumerate(("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"))},
    **{f"r{n}": (8 * n, 8) for n in range(8, 16)},
    "rip": (128, 8),
    "eflags": (136, 4),
    "cs": (140, 4),
}
#: control registers by the numbers of `p`; in a `g` answer their place depends on the mode of the vCPU
CONTROL = {"cr3": 29, "cr4": 30}
_CR4_SMAP = 1 << 21
#: the number of rip in a `P` command
RIP = 16


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Why the machine stands still."""

    signal: int  #: GDB's number: 5 for a breakpoint or a step, 2 for an interruption
    thread: int  #: of the vCPU, counted from 1


@dataclass(frozen=True)
class Registers:
    """The registers of one vCPU, by name."""

    values: dict[str, int]

    @property
    def rip(self) -> int:
        """Return where the vCPU stands."""
        return self.values["rip"]

    @property
    def cpl(self) -> int:
        """Return the current privilege level: the low bits of CS."""
        return self.values["cs"] & 3

    @property
    def smap(self) -> bool:
        """Return whether supervisor-mode access prevention is on: CR4 bit 21."""
        return bool(self.values["cr4"] & _CR4_SMAP)


def encode(payload: bytes) -> bytes:
    """Return a packet with this payload."""
    body = b"".join(bytes((0x7D, byte ^ 0x20)) if byte in _ESCAPED else bytes((byte,)) for byte in payload)
    return b"$%s#%02x" % (body, sum(body) & 0xFF)


class Decoder:
    """Takes bytes as they come and returns the payloads of the packets in them; acknowledgements are left out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that are complete now; raise ValueError for a damaged packet."""
        self._rest += data
        payloads = []
        while True:
            self._rest = self._rest[max(0, self._rest.find(b"$")) :] if b"$" in self._rest else b""
            end = self._rest.find(b"#")
            if end < 0 or len(self._rest) < end + 3:
                break
            payloads.append(_payload(self._rest[1:end], self._rest[end + 1 : end + 3]))
            self._rest = self._rest[end + 3 :]
        if len(self._rest) > _LONGEST:
            raise ValueError(f"gdb packet: no end within {_LONGEST} bytes")
        return payloads


def _payload(body: bytes, checksum: bytes) -> bytes:
    """Return the payload of a packet's body, escapes and runs undone."""
    try:
        wanted = int(checksum, 16)
    except ValueError:
        raise ValueError(f"gdb packet: {checksum!r} is not a checksum") from None
    if sum(body) & 0xFF != wanted:
        raise ValueError(f"gdb packet: checksum {sum(body) & 0xFF:02x}, but the packet says {wanted:02x}")
    payload = bytearray()
    at = 0
    while at < len(body):
        mark, following = body[at], body[at + 1 : at + 2]
        if mark == 0x7D and following:
            payload.append(following[0] ^ 0x20)
            at += 2
        elif mark == 0x2A and following and payload:
            payload += payload[-1:] * max(0, following[0] - _RUN)
            at += 2
        else:
            payload.append(mark)
            at += 1
    return bytes(payload)


def parse_stop(payload: bytes) -> Stop | None:
    """Return the stop that a payload tells of; None if it is another answer."""
    text = payload.decode("ascii", "replace")
    if text[:1] not in ("S", "T") or len(text) < 3:
        return None
    try:
        signal = int(text[1:3], 16)
        pairs = dict(part.split(":", 1) for part in text[3:].split(";") if ":" in part)
        # with the multiprocess extension a thread is pPROCESS.THREAD
        thread = int(pairs.get("thread", "1").rpartition(".")[2].lstrip("p"), 16)
    except ValueError:
        return None
    return Stop(signal=signal, thread=thread)


def parse_registers(payload: bytes, control: Mapping[str, bytes]) -> Registers:
    """Return the registers of a `g` answer and of the `p` answers of CONTROL.

    Raises ValueError if they are not those of an x86-64 machine.
    """
    raw = bytes.fromhex(payload.decode("ascii", "replace").replace("x", "0"))
    end = max(at + size for at, size in _REGISTERS.values())
    if len(raw) < end:
        raise ValueError(f"gdb packet: {len(raw)} bytes of registers, wanted {end}")
    values = {name: int.from_bytes(raw[at : at + size], "little") for name, (at, size) in _REGISTERS.items()}
    words = {name: bytes.fromhex(word.decode("ascii", "replace")) for name, word in control.items()}
    own = {name: int.from_bytes(word, "little") for name, word in words.items()}
    return Registers({**values, **own})
