"""The JSON of a run and its published schema say the same, and hold every key that was promised."""

from __future__ import annotations

import json
from typing import Any

import pytest

from testbed.model.outcome import CaseResult, Finding, Outcome, Role, RunReport, Verdict
from testbed.report.json_file import schema, to_json

PROMISED = {"schema", "case", "result", "cells"}
PROMISED_OF_A_CELL = {
    "id",
    "scenario",
    "machine",
    "machine_type",
    "parameters",
    "cmdline",
    "kernel_cmdline",
    "image",
    "kernel",
    "qemu",
    "cpu",
    "accel",
    "start",
    "time",
    "verdict",
    "outcome",
    "expected",
    "reason",
    "findings",
    "guest_seconds",
    "wall_seconds",
    "rundir",
}
PROMISED_OF_A_FINDING = {"subject", "expected", "observed", "evidence"}


def report(*, case: str | None = "pcie-aspm-off") -> RunReport:
    finding = Finding(subject="QMP", expected="DEVICE_DELETED", observed="nothing for 30 s", evidence="qmp.jsonl:12")
    cell = Outcome(
        id="disk-unplug q35[hotplug=native] pcie_aspm=off",
        scenario="disk-unplug",
        machine="q35",
        machine_type="q35",
        parameters={"hotplug": "native", "ports": 4, "port_properties": {"x": False}, "devices": ["virtio-blk"]},
        cmdline='pcie_aspm=off größe="1"',
        kernel_cmdline="console=ttyS0 pcie_aspm=off",
        image="debian 0123456789ab",
        kernel="linux-image-6.1.0-1-amd64 6.1.1-1",
        qemu="/usr/bin/qemu-system-x86_64 7.2.22",
        cpu="qemu64",
        accel="tcg",
        verdict=Verdict.BAD,
        outcome="ignored",
        expected=Verdict.BAD,
        role=Role.FAILING,
        reason="the guest ignored the request",
        findings=(finding,),
        guest_seconds=31.5,
        wall_seconds=40.25,
        rundir="/runs/1",
    )
    return RunReport(case=case, result=CaseResult.REPRODUCED, cells=(cell, cell.model_copy(update={"expected": None})))


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(schema())["$defs"][node["$ref"].rpartition("/")[2]]
    return found


def test_the_schema_demands_every_promised_key() -> None:
    root = json.loads(schema())
    cell = resolved(root["properties"]["cells"]["items"])
    finding = resolved(cell["properties"]["findings"]["items"])
    for node, promised in ((root, PROMISED), (cell, PROMISED_OF_A_CELL), (finding, PROMISED_OF_A_FINDING)):
        assert promised <= set(node["required"]) <= set(node["properties"])
        assert node["additionalProperties"] is False


def test_a_report_holds_just_the_keys_of_the_schema() -> None:
    root = json.loads(schema())
    written = json.loads(to_json([report()]))
    assert set(written) == set(root["required"])
    for cell in written["cells"]:
        assert set(cell) == set(resolved(root["properties"]["cells"]["items"])["required"])
        for finding in cell["findings"]:
            assert set(finding) == PROMISED_OF_A_FINDING


@pytest.mark.parametrize("case", ["pcie-aspm-off", None])
def test_a_report_survives_writing_and_reading(case: str | None) -> None:
    assert RunReport.model_validate_json(to_json([report(case=case)])) == report(case=case)


def test_several_reports_are_a_list() -> None:
    written = json.loads(to_json([report(), report(case=None)]))
    assert [each["case"] for each in written] == ["pcie-aspm-off", None]


def test_the_version_of_the_schema_is_in_both() -> None:
    assert json.loads(to_json([report()]))["schema"] == 1
    assert json.loads(schema())["properties"]["schema"]["default"] == 1


def test_a_finding_without_evidence_is_not_allowed() -> None:
    with pytest.raises(ValueError, match="evidence"):
        Finding(subject="s", expected="e", observed="o", evidence="")


def test_an_unknown_key_is_not_taken() -> None:
    changed = {**json.loads(to_json([report()])), "extra": 1}
    with pytest.raises(ValueError, match="extra"):
        RunReport.model_validate(changed)
