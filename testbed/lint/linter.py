"""Every rule against every function of a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lint.function import Topology
from testbed.lint.report import Diagnostic, NotChecked, Report
from testbed.lint.rule import Missing
from testbed.lint.rules import aer, bar, bridge, chain, express, header, msix, sriov

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.lint.function import Function
    from testbed.lint.rule import Rule

RULES: tuple[Rule, ...] = (
    *header.RULES,
    *chain.RULES,
    *bar.RULES,
    *bridge.RULES,
    *msix.RULES,
    *express.RULES,
    *aer.RULES,
    *sriov.RULES,
)


_BYTES = "lspci -vvxxxx as root"


def lint_functions(functions: Sequence[Function]) -> Report:
    """Check the functions of one machine, from files or from the machine while it runs."""
    topology = Topology(functions)
    found = [each for function in functions for rule in _for(function) for each in _apply(rule, function, topology)]
    return Report(
        functions=len(functions),
        diagnostics=tuple(each for each in found if isinstance(each, Diagnostic)),
        not_checked=tuple(each for each in found if isinstance(each, NotChecked)),
    )


def _for(function: Function) -> Sequence[Rule]:
    # a function that does not answer gets only that remark
    if function.has_bytes and not function.answers:
        return header.UNANSWERED
    return RULES


def _apply(rule: Rule, function: Function, topology: Topology) -> Iterator[Diagnostic | NotChecked]:
    short = _too_short(rule, function)
    for found in (short,) if short else rule.check(function, topology):
        if isinstance(found, Missing):
            yield _not_checked(rule, function, found)
        else:
            yield Diagnostic(
                rule=rule.id,
                severity=rule.severity,
                where=function.where(found.at),
                function=function.name,
                offset=found.at,
                message=found.message,
                satisfy=rule.satisfy,
                source=rule.source,
                mend=(*found.mend, *([rule.mend] if rule.mend else [])),
            )


def _not_checked(rule: Rule, function: Function, found: Missing) -> NotChecked:
    return NotChecked(
        rule=rule.id, where=function.where(), function=function.name, reason=found.reason, needs=found.needs
    )


def _too_short(rule: Rule, function: Function) -> Missing | None:
    """Return what is missing if the function has, or may have, more than the file shows of what a rule reads."""
    have = len(function.space)
    if not have:
        return None if rule.words_do else Missing(reason="the file has only decoded text, no raw bytes", needs=_BYTES)
    if have >= rule.reads or not function.space.has_capabilities:
        return None
    if have >= 256 and not function.space.is_express:
        return None  # PCI: there is no more
    option = "lspci -xxxx" if rule.reads > 256 else "lspci -xxx, or -xxxx,"
    return Missing(reason=f"only {have} bytes of its configuration space are in the file", needs=f"{option} as root")
