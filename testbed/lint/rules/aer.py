"""Facts about Advanced Error Reporting: what is masked, what was latched, what raises no interrupt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lint.rule import Hit, note
from testbed.model import aer as registers
from testbed.model.aer import CORRECTABLE, UNCORRECTABLE, ErrorSeverity, errors_in, read_aer
from testbed.model.sriov import at_routing_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.lint.function import Function, Topology
    from testbed.model.aer import Aer, AerError, RootErrors

_DEFAULT_MASKED = tuple(each for each in (*UNCORRECTABLE, *CORRECTABLE) if each.masked)
#: DLP and MalfTLP; the others that are fatal by default are optional
_ALWAYS_FATAL = 1 << 4 | 1 << 18
_ROOT_COMMANDS = ("correctable", "non-fatal", "fatal")
_ROOT_STATUS = (
    (0, "correctable"),
    (1, "several correctable"),
    (2, "uncorrectable"),
    (3, "several uncorrectable"),
    (5, "non-fatal"),
    (6, "fatal"),
)


def _read(function: Function) -> Aer | None:
    root = function.express is not None and function.express.is_root
    return read_aer(function.space, root=root)


def _names(errors: Sequence[AerError]) -> str:
    return ", ".join(error.kernel for error in errors)


@note("aer-absent", source="PCIe Base 6.3, 7.8.4: the capability is optional", reads=4096)
def aer_absent(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say that a PCIe function has no AER."""
    if function.express and not function.has_vf_ids and not _read(function):
        yield Hit(message="no AER capability: it does not record which error occurred", at=function.express.offset)


@note("aer-mask", source="PCIe Base 6.3, 6.2.3.2.2, 7.8.4.3 and 7.8.4.6", reads=4096)
def aer_mask(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say which errors are masked that are not by default; a VF's mask is its PF's."""
    aer = _read(function)
    if not aer or function.has_vf_ids:
        return
    uncorrectable, correctable = errors_in(aer.mask, UNCORRECTABLE), errors_in(aer.correctable_mask, CORRECTABLE)
    if masked := [each for each in uncorrectable if not each.masked]:
        yield Hit(message=f"uncorrectable errors masked: {_names(masked)}", at=aer.offset + registers.MASK_AT)
    if masked := [each for each in correctable if not each.masked]:
        at = aer.offset + registers.CORRECTABLE_MASK_AT
        yield Hit(message=f"correctable errors masked: {_names(masked)}", at=at)


@note("aer-mask-default", source="PCIe Base 6.3, 7.8.4.3 and 7.8.4.6", reads=4096)
def aer_mask_default(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say that a function masks what it masks by default, in words that are the same for all."""
    aer = _read(function)
    if not aer or function.has_vf_ids:
        return
    masked = (*errors_in(aer.mask, UNCORRECTABLE), *errors_in(aer.correctable_mask, CORRECTABLE))
    if masked and all(each.masked for each in masked):
        message = f"only errors that the specification masks by default are masked (of {_names(_DEFAULT_MASKED)})"
        yield Hit(message=message, at=aer.offset + registers.MASK_AT)


@note("aer-severity", source="PCIe Base 6.3, 6.2.3.2.1 and 7.8.4.4", reads=4096)
def aer_severity(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say which errors have not their default severity; a VF's severities are its PF's."""
    aer = _read(function)
    if not aer or function.has_vf_ids:
        return
    raised = [each for each in errors_in(aer.severity, UNCORRECTABLE) if each.severity is ErrorSeverity.NON_FATAL]
    lowered = [each for each in errors_in(_ALWAYS_FATAL, UNCORRECTABLE) if not aer.severity & each.mask]
    at = aer.offset + registers.SEVERITY_AT
    if raised:
        yield Hit(message=f"fatal, by default non-fatal: {_names(raised)}", at=at)
    if lowered:
        yield Hit(message=f"non-fatal, by default fatal: {_names(lowered)}", at=at)


@note("aer-status", source="PCIe Base 6.3, 6.2.4, 7.8.4.2 and 7.8.4.5", reads=4096)
def aer_status(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say which errors are latched."""
    aer = _read(function)
    if not aer:
        return
    if latched := errors_in(aer.status, UNCORRECTABLE):
        header = " ".join(f"{word:08x}" for word in aer.header_log)
        first = _names(errors_in(1 << aer.first_error, latched)) or "not given"
        message = f"uncorrectable errors latched: {_names(latched)}; first: {first}; TLP header {header}"
        yield Hit(message=message, at=aer.offset + registers.STATUS_AT)
    if latched := errors_in(aer.correctable_status, CORRECTABLE):
        at = aer.offset + registers.CORRECTABLE_STATUS_AT
        yield Hit(message=f"correctable errors latched: {_names(latched)}", at=at)


@note("aer-root-command", source="PCIe Base 6.3, 6.2.4.1.2 and 7.8.4.9", reads=4096)
def aer_root_command(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say which classes of errors raise no interrupt at a root port."""
    aer = _read(function)
    if aer and aer.root:
        off = [name for bit, name in enumerate(_ROOT_COMMANDS) if not aer.root.command & 1 << bit]
        if off:
            message = f"Root Error Command raises no interrupt for: {', '.join(off)}"
            yield Hit(message=message, at=aer.offset + registers.ROOT_COMMAND_AT)


@note("aer-root-status", source="PCIe Base 6.3, 6.2.4.1.1, 7.8.4.10 and 7.8.4.11", reads=4096)
def aer_root_status(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say which error messages a root port has received, and from whom."""
    aer = _read(function)
    if not aer or not aer.root:
        return
    received = [name for bit, name in _ROOT_STATUS if aer.root.status & 1 << bit]
    if received:
        message = f"Root Error Status: {', '.join(received)}; {_sources(function, aer.root)}"
        yield Hit(message=message, at=aer.offset + registers.ROOT_STATUS_AT)


def _sources(function: Function, root: RootErrors) -> str:
    domain = function.bdf.domain if function.bdf else 0
    sources = (
        ("correctable", root.status & 1, root.correctable_source),
        ("uncorrectable", root.status & 4, root.uncorrectable_source),
    )
    return ", ".join(f"{name} from {at_routing_id(domain, source)}" for name, received, source in sources if received)


RULES = (aer_absent, aer_mask, aer_mask_default, aer_severity, aer_status, aer_root_command, aer_root_status)
