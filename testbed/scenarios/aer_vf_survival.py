"""Scenario aer-vf-survival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.vf_link import CarrierWatch, exchange, exchange_before, interface_at
from testbed.model.errors import BrokenError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.model.recovery import RecoveryState
from testbed.scenarios.aer_judgement import ERROR_OPTIONS, inject_chosen, silent
from testbed.scenarios.load import start_interface_load
from testbed.scenarios.load_kinds import Fate
from testbed.scenarios.scenario import scenario
from testbed.scenarios.sriov_state import VF_MODULES, VFS_OPTION, enabled_vfs, pf_device, working_vf

if TYPE_CHECKING:
    from testbed.actions.injection import Injection
    from testbed.guest.guest import Guest
    from testbed.guest.vf_link import Exchange
    from testbed.model.pci import Bdf
    from testbed.scenarios.trial import Trial

_LIMIT = Parameter(type="int", default=30, min=1, max=600, doc="guest seconds a VF may take to work again")
_REMEDY = Parameter(
    type="str",
    default="none",
    choices=["none", "down-up"],
    doc="down-up: take the interface of a VF that is late down and up again, which must restore it in time",
)
_FRAME = "a frame that comes back"
#: guest seconds in which the PF answers after its recovery: its own link takes three
_PF_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class _Function:
    """The PF, or the VF, from the error on."""

    name: str
    interface: str
    watch: CarrierWatch
    after: Exchange
    since: float  #: the error, in guest seconds

    @property
    def outage(self) -> float:
        return self.after.seconds - self.since

    @property
    def findings(self) -> tuple[Finding, ...]:
        return (self._carrier, _traffic(f"traffic of the {self.name} ({self.interface}) afterwards", self.after))

    @property
    def _carrier(self) -> Finding:
        """Return when the carrier went and came."""
        lost, back, last = self.watch.lost, self.watch.back, self.watch.samples[-1]
        words = "never lost"
        if lost:
            words = f"lost {lost.seconds - self.since:.1f} s after the error, "
            words += f"back {back.seconds - self.since:.1f} s after it" if back else "and not back"
        subject, expected = f"carrier of the {self.name} ({self.interface})", "back" if lost else "never lost"
        return Finding(subject=subject, expected=expected, observed=words, evidence=last.evidence)


@scenario(
    modules=VF_MODULES,
    loads=("net",),
    options={"vfs": VFS_OPTION, "limit": _LIMIT, "remedy": _REMEDY, **ERROR_OPTIONS},
)
async def aer_vf_survival(trial: Trial) -> Judgement:
    """After an error of a PF, do the PF and its VF soon work again, and did the recovery succeed?"""
    guest, limit = trial.guest, float(trial.options["limit"])
    pf = await enabled_vfs(trial, int(trial.options["vfs"]))
    interface, vf_before = await working_vf(trial, pf.vfs[0])
    pf_interface, pf_before = await _working_pf(guest, pf.bdf)
    load = await start_interface_load(trial, interface)
    await load.mark()
    async with CarrierWatch(guest, interface) as watch, CarrierWatch(guest, pf_interface) as pf_watch:
        injection = await inject_chosen(trial, pf_device(trial))
        unheard = silent(trial, injection)
        if unheard:
            return unheard
        end = injection.started + limit
        await watch.until_carrier(before=end)
        after = await exchange_before(guest, interface, end=end)
        pf_after = await exchange_before(guest, pf_interface, end=max(end, injection.started + _PF_SECONDS))
    vf = _Function(name="VF", interface=interface, watch=watch, after=after, since=injection.started)
    own = _Function(name="PF", interface=pf_interface, watch=pf_watch, after=pf_after, since=injection.started)
    findings = (pf_before, vf_before, *injection.findings, *own.findings, *vf.findings)
    fate = Fate.DISTURBED if injection.recovery else Fate.STAYS
    judgement = await load.judged(_judged(injection, own, vf, findings, limit), fate)
    if trial.options["remedy"] == "none":
        return judgement
    if judgement.outcome not in ("no-traffic", "no-carrier") or after.works:
        raise BrokenError(f"nothing left for down-up to restore: {judgement.reason}")
    return await _mended(guest, interface, judgement, limit)


async def _working_pf(guest: Guest, bdf: Bdf) -> tuple[str, Finding]:
    """Return the PF's interface, which has carrier; raise BrokenError if it carries no frames."""
    interface = await interface_at(guest, bdf)
    answer = await exchange(guest, interface) if interface else None
    if answer is None or not answer.works:
        raise BrokenError(f"starting state: the PF at {bdf} {answer.observed if answer else 'has no interface'}")
    return interface, _traffic(f"traffic of the PF ({interface}) before", answer)


def _judged(
    injection: Injection, pf: _Function, vf: _Function, findings: tuple[Finding, ...], limit: float
) -> Judgement:
    recovery = injection.recovery
    ended = f"the PF's recovery was {recovery.state}" if recovery else "the error was correctable"
    verdict, outcome, words = Verdict.BAD, _failure(vf, limit), f"the VF: {_words(vf)}"
    if recovery and recovery.state is not RecoveryState.SUCCESSFUL:
        outcome = "recovery-failed"
    elif not pf.after.works:
        outcome, words = "pf-dead", f"the PF: {_words(pf)}; {words}"
    elif vf.after.works and vf.outage <= limit:
        verdict, outcome = Verdict.GOOD, "survived"
        words = f"the VF worked again {vf.outage:.1f} s after the error" if vf.watch.lost else "no outage"
    elif vf.after.works:
        words = f"the VF worked again only {vf.outage:.1f} s after the error"
    unharmed = verdict is Verdict.GOOD and not vf.watch.lost
    seconds = 0.0 if unharmed else round(vf.outage, 3)
    reason = f"{ended}, the PF works; {words}" if pf.after.works else f"{ended}; {words}"
    return Judgement(verdict=verdict, outcome=outcome, reason=reason, findings=findings, guest_seconds=seconds)


def _words(function: _Function) -> str:
    return f"{function.after.observed}, {function.outage:.0f} s after the error"


def _failure(vf: _Function, limit: float) -> str:
    """Return what the VF lacked when its time was up, whatever it did later."""
    carrier = [sample.carrier for sample in vf.watch.samples if sample.seconds <= vf.since + limit]
    return "no-traffic" if carrier[-1] else "no-carrier"


async def _mended(guest: Guest, interface: str, before: Judgement, limit: float) -> Judgement:
    """Set the VF's interface down and up, and judge whether it works within the limit then."""
    await guest.act(f"ip link set {interface} down; ip link set {interface} up")
    begun = await guest.shell.clock()
    answer = await exchange_before(guest, interface, end=begun + limit)
    finding = _traffic(f"traffic of the VF ({interface}) after down and up", answer)
    seconds = answer.seconds - begun
    works = (
        f"works {seconds:.1f} s after" if answer.works else f"does not work ({answer.observed}) {seconds:.0f} s after"
    )
    return Judgement(
        verdict=Verdict.GOOD if answer.works else Verdict.BAD,
        outcome="mended" if answer.works else "not-mended",
        reason=f"{before.reason}; it {works} down and up",
        findings=(*before.findings, finding),
        guest_seconds=round(seconds, 3),
    )


def _traffic(subject: str, answer: Exchange) -> Finding:
    observed = f"{_FRAME}: {answer.observed}" if answer.works else answer.observed
    return Finding(subject=subject, expected=_FRAME, observed=observed, evidence=answer.evidence)
