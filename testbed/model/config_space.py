"""The configuration space of one PCI function: its bytes, its header, and the two chains of capabilities in it.

Source: PCIe Base 6.3, sections 7.5.1 (header) and 7.6 (extended capabilities); PCI 3.0, chapter 6. All reads are
little endian. A walk ends whatever the bytes are: each offset is visited once.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property

#: what a dump may hold: the header, that of a CardBus bridge, PCI's space, PCIe's
SIZES = (64, 128, 256, 4096)
STANDARD_START = 0x40
EXTENDED_START = 0x100

STATUS_CAPABILITIES = 1 << 4
COMMAND_IO = 1 << 0
COMMAND_MEMORY = 1 << 1
COMMAND_BUS_MASTER = 1 << 2
COMMAND_SERR = 1 << 8

LAYOUT_ENDPOINT = 0
LAYOUT_BRIDGE = 1
LAYOUT_CARDBUS = 2

EXPRESS_ID = 0x10
_PCIX_ID = 0x07
_PCIX_266_OR_533 = 0x3 << 30  #: of PCI-X Status
_CLASS_HOST = 0x0600
_ROW = 16
_POINTER = {LAYOUT_ENDPOINT: 0x34, LAYOUT_BRIDGE: 0x34, LAYOUT_CARDBUS: 0x14}


class ChainFaultKind(enum.StrEnum):
    """What is wrong with a pointer to a capability."""

    LOOP = "loop"  #: it leads to a capability that was visited
    BELOW = "below"  #: it leads into the header, or out of the extended space
    MISALIGNED = "misaligned"  #: its two lowest bits are not 0; they are masked, as software has to
    NOTHING = "nothing"  #: it leads to bytes that read as all ones


@dataclass(frozen=True, kw_only=True)
class ChainFault:
    """A wrong pointer."""

    kind: ChainFaultKind
    at: int  #: where the pointer stands
    target: int  #: its value


@dataclass(frozen=True, kw_only=True)
class Capability:
    """A capability's place."""

    offset: int
    id: int
    version: int = 0  #: of an extended capability


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The capabilities a walk came by, in their order, and what was wrong on the way."""

    capabilities: tuple[Capability, ...] = ()
    faults: tuple[ChainFault, ...] = ()

    def find(self, capability_id: int) -> Capability | None:
        """Return the first capability with this id."""
        return next((each for each in self.capabilities if each.id == capability_id), None)


@dataclass(frozen=True)
class ConfigSpace:
    """The bytes of a configuration space, from offset 0 on; none where nothing is known of it but words."""

    data: bytes

    def __post_init__(self) -> None:
        if self.data and len(self.data) not in SIZES:
            sizes = ", ".join(map(str, SIZES))
            raise ValueError(f"a configuration space has {sizes} bytes, not {len(self.data)}")

    def __len__(self) -> int:
        return len(self.data)

    def holds(self, offset: int, size: int) -> bool:
        """Return whether these bytes are there."""
        return 0 <= offset <= len(self.data) - size

    def fits(self, offset: int, size: int) -> bool:
        """Return whether a structure's bytes are there, and end before the space that its capability is in does."""
        end = EXTENDED_START if offset < EXTENDED_START else SIZES[-1]
        return self.holds(offset, size) and offset + size <= end

    def u8(self, offset: int) -> int:
        """Return a byte; raise IndexError if it is not there."""
        return self._read(offset, 1)

    def u16(self, offset: int) -> int:
        """Return a word; raise IndexError if it is not all there."""
        return self._read(offset, 2)

    def u32(self, offset: int) -> int:
        """Return a double word; raise IndexError if it is not all there."""
        return self._read(offset, 4)

    def _read(self, offset: int, size: int) -> int:
        if not self.holds(offset, size):
            raise IndexError(f"{size} bytes at {offset:#x} of {len(self.data)}")
        return int.from_bytes(self.data[offset : offset + size], "little")

    @property
    def vendor(self) -> int:
        """Return the vendor id."""
        return self.u16(0x00)

    @property
    def device(self) -> int:
        """Return the device id."""
        return self.u16(0x02)

    @property
    def command(self) -> int:
        """Return the Command register."""
        return self.u16(0x04)

    @property
    def status(self) -> int:
        """Return the Status register."""
        return self.u16(0x06)

    @property
    def layout(self) -> int:
        """Return the header's layout: 0 an endpoint's, 1 a bridge's, 2 a CardBus bridge's."""
        return self.u8(0x0E) & 0x7F

    @property
    def has_capabilities(self) -> bool:
        """Return whether the Status register announces capabilities."""
        return bool(self.status & STATUS_CAPABILITIES)

    @cached_property
    def is_absent(self) -> bool:
        """Return whether every byte reads as all ones, as where nothing answers."""
        return self.data == b"\xff" * len(self.data)

    @cached_property
    def unanswered_header(self) -> int:
        """Return how many bytes from 0 on read as all ones; 0 unless those that no function has so are among them.

        A VF's ids read as all ones too (9.3.4); its Command, class and header type do not.
        """
        ones = len(self.data) - len(self.data.lstrip(b"\xff"))
        return ones if ones >= _ROW else 0

    @cached_property
    def unanswered_from(self) -> int | None:
        """Return the offset from which on all reads as all ones, where that is the header's end or PCI's; else None."""
        for start in (STANDARD_START, EXTENDED_START):
            rest = self.data[start:]
            if rest and rest == b"\xff" * len(rest):
                return start
        return None

    @cached_property
    def is_aliased(self) -> bool:
        """Return whether what should be the extended space repeats PCI's 256 bytes: there is none behind it.

        The test of Linux drivers/pci/probe.c, pci_ext_cfg_is_aliased().
        """
        first = self.data[:4]
        places = range(EXTENDED_START, len(self.data), EXTENDED_START)
        return bool(places) and all(self.data[at : at + 4] == first for at in places)

    @cached_property
    def has_extended(self) -> bool:
        """Return whether the bytes from 100h on are an extended space.

        Linux drivers/pci/probe.c, pci_cfg_space_size(): of PCI Express, of PCI-X at 266 or 533 MHz, of a host bridge;
        and of nobody where they are an alias.
        """
        if len(self) <= EXTENDED_START or self.is_aliased or self.unanswered_from is not None:
            return False
        return self.is_express or self._is_fast_pcix or self.u16(0x0A) == _CLASS_HOST

    @property
    def _is_fast_pcix(self) -> bool:
        pcix = self.standard.find(_PCIX_ID)
        return pcix is not None and self.fits(pcix.offset, 8) and bool(self.u32(pcix.offset + 4) & _PCIX_266_OR_533)

    @cached_property
    def standard(self) -> Chain:
        """Return the capabilities of PCI's 256 bytes; none if they are not all there."""
        start = _POINTER.get(self.layout)
        if start is None or not self.has_capabilities or len(self) < EXTENDED_START:
            return Chain()
        if self.unanswered_from == STANDARD_START:
            return Chain()
        return _Walk(self).standard(start)

    @cached_property
    def extended(self) -> Chain:
        """Return the capabilities of PCIe's 4096 bytes; none if they are not there."""
        return _Walk(self).extended() if self.has_extended else Chain()

    @property
    def is_express(self) -> bool:
        """Return whether the function has the PCI Express capability."""
        return self.standard.find(EXPRESS_ID) is not None


class _Walk:
    """One walk along a chain; it ends because an offset is visited once."""

    def __init__(self, space: ConfigSpace) -> None:
        self._space = space
        self._found: dict[int, Capability] = {}
        self._faults: list[ChainFault] = []

    def standard(self, start: int) -> Chain:
        at = start
        while target := self._follow(at, self._space.u8(at), lowest=STANDARD_START):
            capability_id = self._space.u8(target)
            if capability_id == 0xFF:
                self._fault(ChainFaultKind.NOTHING, at, target)
                break
            self._found[target] = Capability(offset=target, id=capability_id)
            at = target + 1
        return self._chain()

    def extended(self) -> Chain:
        at, target = 0, EXTENDED_START
        while target:
            header = self._space.u32(target)
            if header == 0xFFFFFFFF and at:
                self._fault(ChainFaultKind.NOTHING, at, target)
            if header in (0, 0xFFFFFFFF):
                break
            self._found[target] = Capability(offset=target, id=header & 0xFFFF, version=header >> 16 & 0xF)
            at = target + 2
            target = self._follow(at, header >> 20, lowest=EXTENDED_START)
        return self._chain()

    def _follow(self, at: int, pointer: int, *, lowest: int) -> int:
        """Return where a pointer leads, or 0 where the chain ends."""
        target = pointer & ~3
        if pointer & 3:
            self._fault(ChainFaultKind.MISALIGNED, at, pointer)
        if not target:
            return 0
        if target < lowest:
            self._fault(ChainFaultKind.BELOW, at, pointer)
            return 0
        if target in self._found:
            self._fault(ChainFaultKind.LOOP, at, pointer)
            return 0
        return target

    def _fault(self, kind: ChainFaultKind, at: int, target: int) -> None:
        self._faults.append(ChainFault(kind=kind, at=at, target=target))

    def _chain(self) -> Chain:
        return Chain(capabilities=tuple(self._found.values()), faults=tuple(self._faults))
