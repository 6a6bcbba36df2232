"""Scenario bar-mapping: a driver maps a BAR, or more than that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.guest.device_proof import prove_device
from testbed.guest.pci import address_of
from testbed.model.errors import UnsupportedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import cold_device

if TYPE_CHECKING:
    from testbed.scenarios.trial import Trial

_MODULE, _FILE = "bar_mapper", "bar-mapper.ko"
#: kernel/resource.c, iomem_map_sanity_check(), and its caller's line in arch/x86/mm/ioremap.c
_KERNEL = "resource sanity check: |mapping multiple BARs"


@scenario(
    warp_safe=True,
    options={
        "bar": Parameter(type="int", default=0, min=0, max=5, doc="the BAR of the first network card"),
        "beyond": Parameter(
            type="int", default=0, min=0, max=1 << 20, doc="bytes behind its end that are mapped with it"
        ),
    },
)
async def bar_mapping(trial: Trial) -> Judgement:
    """Does the kernel take a driver's mapping of a BAR without complaint?

    The driver is a module of the test bed's own (image bar-mapper), which does nothing else.
    """
    guest = trial.guest
    # busybox's modinfo ends with 0 for a module that is not there
    if (await guest.shell.run(f"grep -q {_FILE} /lib/modules/*/modules.dep")).status != 0:
        raise UnsupportedError(f"the image has no module {_MODULE}", hint="--image bar-mapper")
    device = await cold_device(trial, "nic")
    function = await address_of(guest.machine, device.id)
    await guest.shell.catch_up()
    position = guest.shell.log.latest
    bar, beyond = trial.options["bar"], trial.options["beyond"]
    line = f"modprobe {_MODULE} function={function} bar={bar} beyond={beyond}"
    trial.stimulus(line)
    guest.machine.journal.step("guest", line)
    result = await guest.shell.run(line)
    await guest.shell.catch_up()
    mapped = "mapped" if result.status == 0 else result.error or result.text
    said = guest.shell.log.find(_KERNEL, after=position)
    proof = await prove_device(guest, device)
    findings = (
        Finding(subject=f"BAR {bar} of {function}", expected="mapped", observed=mapped, evidence=result.evidence),
        *(Finding(subject="the kernel", expected="nothing", observed=r.text, evidence=r.reference) for r in said),
        proof.finding,
    )
    good = result.status == 0 and not said and proof.works
    words = "; ".join(record.text for record in said) or "the kernel says nothing"
    return Judgement(
        verdict=Verdict.GOOD if good else Verdict.BAD,
        outcome=_outcome(mapped=result.status == 0, warned=bool(said), works=proof.works),
        reason=f"{mapped}, and {proof.observed}; {words}",
        findings=findings,
    )


def _outcome(*, mapped: bool, warned: bool, works: bool) -> str:
    """Return what became of the mapping, the worst first."""
    if not mapped:
        return "refused"
    return "dead" if not works else "warned" if warned else "quiet"
