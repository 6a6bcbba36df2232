"""Machine templates: what the shipped ones render to, and how mistakes in parameters and templates are told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from testbed.machine.template import Template, load_template
from testbed.model.catalog import TEMPLATES
from testbed.model.errors import InputError

HEAD = """\
description: a machine
parameters:
  count: {type: int, default: 1, min: 0, max: 9, doc: how many}
  name: {type: str, default: a, doc: a name}
---
"""
#: the line of the file on which a body after HEAD begins
BODY = HEAD.count("\n") + 1

#: each parameter of the shipped templates, as `-p` gives it, and what the machine must then be
CHANGES: list[tuple[str, dict[str, str], dict[str, Any]]] = [
    ("q35", {"type": "pc-q35-6.0"}, {"machine_type": "pc-q35-6.0"}),
    ("q35", {"cpu": "Skylake-Client,-hle"}, {"cpu": "Skylake-Client,-hle"}),
    ("q35", {"cpus": "4"}, {"cpus": 4}),
    ("q35", {"start": "bzimage"}, {"start": "bzimage"}),
    ("q35", {"firmware": "ovmf"}, {"firmware": "ovmf"}),
    ("i440fx", {"start": "pvh"}, {"start": "pvh"}),
    ("i440fx", {"firmware": "ovmf"}, {"firmware": "ovmf"}),
    ("q35", {"memory": "0x400"}, {"memory_mib": 1024}),
    ("i440fx", {"type": "pc-i440fx-6.0"}, {"machine_type": "pc-i440fx-6.0"}),
    ("level1", {"memory": "3072"}, {"memory_mib": 3072}),
    ("sriov", {"memory": "1024"}, {"memory_mib": 1024}),
    ("i440fx", {"cpu": "host"}, {"cpu": "host"}),
    ("i440fx", {"cpus": "2"}, {"cpus": 2}),
    ("i440fx", {"memory": "256"}, {"memory_mib": 256}),
    ("sriov", {"cpus": "2"}, {"cpus": 2}),
    ("sriov", {"memory": "1024"}, {"memory_mib": 1024}),
]


def written(tmp_path: Path, body: str, *, head: str = HEAD) -> Template:
    (tmp_path / "t.yaml.j2").write_text(head + body)
    return load_template(str(tmp_path / "t.yaml.j2"))


def refused(tmp_path: Path, body: str, *, head: str = HEAD, **given: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        written(tmp_path, body, head=head).spec(given)
    return caught.value


def rendered(name: str, **texts: str) -> Any:
    chosen = load_template(name)
    return chosen.spec({key: chosen.parse(key, text) for key, text in texts.items()})


# ---- the shipped ones ----


def test_every_shipped_template_is_covered_here() -> None:
    assert TEMPLATES.names() == sorted({name for name, _, _ in CHANGES})


@pytest.mark.parametrize("name", ["i440fx", "q35"])
def test_a_hotplug_template_has_a_disk_and_free_slots_by_default(name: str) -> None:
    machine = rendered(name)
    assert [device.id for device in machine.devices_of("virtio-blk-pci")] == ["dev1"]
    assert machine.device("dev1").properties == {"drive": "disk1", "serial": "dev1"}
    assert len(machine.slots) == 3
    assert machine.globals == []


def test_the_sriov_template_has_a_pf_in_its_first_port_and_an_iommu_before_it_if_wanted() -> None:
    plain, nvme = rendered("sriov"), rendered("sriov", pf="nvme", vfs="3", iommu="intel", acs="off")
    assert (plain.device("dev1").driver, plain.device("dev1").bus) == ("igb", "rp1")
    assert nvme.device("dev1").properties["sriov_max_vfs"] == 3
    assert nvme.devices[0].driver == "intel-iommu"
    assert nvme.options == {"kernel-irqchip": "split"}
    assert nvme.device("rp1").properties["disable-acs"] is True
    # QEMU 11.1 has no such property: what is its default is not said
    assert plain.device("rp1").properties == {"chassis": 1, "slot": 1}
    # nvme has no network behind it: the second card's is the only one
    assert [network.id for network in nvme.networks] == ["net2"]


@pytest.mark.parametrize(("name", "texts", "wanted"), CHANGES)
def test_a_parameter_changes_its_field_and_no_other(name: str, texts: dict[str, str], wanted: dict[str, Any]) -> None:
    assert rendered(name, **texts).model_dump() == {**rendered(name).model_dump(), **wanted}


@pytest.mark.parametrize(("hotplug", "value"), [("native", False), ("acpi", True)])
def test_q35_hotplug_is_a_global_of_the_south_bridge(hotplug: str, value: bool) -> None:
    (only,) = rendered("q35", hotplug=hotplug).globals
    assert (only.driver, only.property) == ("ICH9-LPC", "acpi-pci-hotplug-with-bridge-support")
    assert only.value is value


@pytest.mark.parametrize(("hotplug", "value"), [("off", False), ("acpi", True)])
def test_i440fx_hotplug_is_a_global_of_the_power_management(hotplug: str, value: bool) -> None:
    (only,) = rendered("i440fx", hotplug=hotplug).globals
    assert (only.driver, only.property) == ("PIIX4_PM", "acpi-root-pci-hotplug")
    assert only.value is value


@pytest.mark.parametrize("name", ["i440fx", "q35"])
def test_ovmf_starts_no_kernel_by_pvh(name: str) -> None:
    with pytest.raises(InputError, match="OVMF starts a bzImage by its EFI stub"):
        rendered(name, firmware="ovmf", start="pvh")


def test_q35_ports_beyond_the_devices_are_free() -> None:
    machine = rendered("q35", ports="3", devices="virtio-blk,e1000")
    assert [slot.bus for slot in machine.slots] == ["rp3"]
    assert [machine.device(f"dev{n}").bus for n in (1, 2)] == ["rp1", "rp2"]


def test_q35_takes_every_number_of_ports() -> None:
    for ports in range(29):
        machine = rendered("q35", ports=str(ports), devices="")
        assert len(machine.devices_of("pcie-root-port")) == len(machine.slots) == ports


def test_q35_port_properties_reach_every_port() -> None:
    machine = rendered("q35", port_properties="power_controller_present=off,x-speed=16,slot=7")
    for port in machine.devices_of("pcie-root-port"):
        assert port.properties["power_controller_present"] is False
        assert port.properties["x-speed"] == 16
        assert port.properties["slot"] == 7


@pytest.mark.parametrize("free", range(13))
def test_i440fx_takes_every_number_of_free_slots_and_devices(free: int) -> None:
    machine = rendered("i440fx", free_slots=str(free), devices=",".join(["virtio-net"] * free))
    assert len(machine.slots) == len(machine.networks) == len(machine.devices) == free


def test_a_device_is_given_by_short_name_or_by_qemus() -> None:
    machine = rendered("q35", devices="virtio-blk,virtio-net-pci,e1000,qemu-xhci")
    drivers = [machine.device(f"dev{n}").driver for n in range(1, 5)]
    assert drivers == ["virtio-blk-pci", "virtio-net-pci", "e1000", "qemu-xhci"]
    assert [disk.id for disk in machine.disks] == ["disk1"]
    assert [network.id for network in machine.networks] == ["net2", "net3"]
    assert machine.device("dev4").properties == {}


@pytest.mark.parametrize(
    ("name", "texts", "words"),
    [
        ("q35", {"ports": "1", "devices": "e1000,e1000"}, "2 devices need as many ports, there are 1"),
        ("i440fx", {"devices": ",".join(["e1000"] * 13)}, "room for 12 here, 13 are given"),
    ],
)
def test_a_template_refuses_what_does_not_fit_and_says_where(name: str, texts: dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        rendered(name, **texts)
    assert words in caught.value.message
    place = caught.value.message.split(": ")[0]
    file, _, line = place.rpartition(":")
    assert "refuse(" in Path(file).read_text().splitlines()[int(line) - 1]


# ---- values ----


@pytest.mark.parametrize(
    "text", ["010", "on", "off", "0x10", "1e3", "null", "~", "no", "5", "a:b", "a#b", "&a", "é'\""]
)
def test_a_text_that_yaml_reads_as_something_else_stays_text(text: str) -> None:
    chosen = load_template("q35")
    assert chosen.spec({"cpu": chosen.parse("cpu", text)}).cpu == text


@pytest.mark.parametrize("text", ["010", "0x10", "1e3", "null", "no", "a: b", "a=b", "1.0"])
def test_a_property_that_yaml_reads_as_something_else_stays_text(text: str) -> None:
    ports = rendered("q35", port_properties=f"x={text}").devices_of("pcie-root-port")
    assert [port.properties["x"] for port in ports] == [text] * 4


@pytest.mark.parametrize(
    ("text", "value"), [("on", True), ("off", False), ("True", True), ("16", 16), ("0", 0), ("-1", -1)]
)
def test_a_property_that_is_a_switch_or_a_number_is_one(text: str, value: bool | int) -> None:
    port = rendered("q35", port_properties=f"x={text}").device("rp1")
    assert port.properties["x"] == value
    assert type(port.properties["x"]) is type(value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cpus": "2"}, "machine q35: parameter cpus: got str '2', wanted int"),
        ({"cpus": True}, "machine q35: parameter cpus: got bool True, wanted int"),
        ({"cpus": 0}, "machine q35: parameter cpus: got 0, wanted at least 1"),
        ({"cpus": 65}, "machine q35: parameter cpus: got 65, wanted at most 64"),
        ({"cpu": 5}, "machine q35: parameter cpu: got int 5, wanted str"),
        ({"hotplug": "yes"}, "machine q35: parameter hotplug: got 'yes', wanted one of default, acpi, native"),
        ({"devices": "e1000"}, "machine q35: parameter devices: got str 'e1000', wanted list"),
        ({"port_properties": ["a"]}, "machine q35: parameter port_properties: got list ['a'], wanted dict"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_with_the_parameters_meaning(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_template("q35").spec(given)
    assert caught.value.message == message
    assert caught.value.hint == load_template("q35").parameters[next(iter(given))].doc


@pytest.mark.parametrize(
    ("name", "text"), [("cpus", "two"), ("cpus", ""), ("cpus", "9" * 5000), ("port_properties", "x"), ("ports", "1.5")]
)
def test_a_text_that_means_no_value_is_refused(name: str, text: str) -> None:
    with pytest.raises(InputError, match=f"machine q35: parameter {name}: got "):
        load_template("q35").parse(name, text)


def test_an_unknown_parameter_is_answered_with_the_closest() -> None:
    chosen = load_template("q35")
    for attempt in (lambda: chosen.spec({"hotplu": "native"}), lambda: chosen.parse("hotplu", "native")):
        with pytest.raises(InputError, match="'hotplu' does not exist") as caught:
            attempt()
        assert caught.value.hint is not None
        assert caught.value.hint.startswith("did you mean hotplug?")


def test_an_unknown_template_is_answered_with_the_closest() -> None:
    with pytest.raises(InputError, match="machine template 'q53' does not exist") as caught:
        load_template("q53")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("did you mean q35? there are: i440fx, ")


def test_a_template_given_by_path_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"machine template mine/q35\.yaml\.j2: no such file"):
        load_template("mine/q35.yaml.j2")


def test_a_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml.j2"
    path.write_bytes(b"description: \xff\n---\n")
    with pytest.raises(InputError, match=r"t\.yaml\.j2: cannot be read as UTF-8 text"):
        load_template(str(path))


def test_a_template_of_the_users_can_import_the_shipped_parts(tmp_path: Path) -> None:
    body = "machine_type: q35\n{% import 'parts.j2' as parts %}\ndevices:\n{{ parts.device('e1000', 1, 'pcie.0') }}"
    body += "networks: [{id: net1}]\n"
    assert written(tmp_path, body).spec({}).device("dev1").driver == "e1000"


# ---- mistakes in a template ----


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("machine_type: {{ nope }}\n", 1),
        ("machine_type: q35\n\n# more\ncpu: {{ name.nope }}\n", 4),
        (
            "machine_type: q35\n{% if count > 0 %}\n{% for n in [1] %}\ncpu: {{ nope }}\n{% endfor %}{% endif %}",
            4,
        ),
        ("machine_type: q35\n{% macro m() %}\n{{ nope }}\n{% endmacro %}\n\n{{ m() }}\n", 3),
        ("machine_type: {{ name }}\n{{ refuse('no') }}\n", 2),
        ("\n{{ 1 // (count - 1) }}\n", 2),
        ("\n{{ count + name }}\n", 2),
        ("\n{{ [][5].x }}\n", 2),
        ("\n\n{% include 'nowhere.j2' %}\n", 3),
        ("{% macro m() %}\n{{ m() }}\n{% endmacro %}\n{{ m() }}", 2),
        ("machine_type: q35\n{% if %}\n", 2),
        ("machine_type: q35\n\n{{ name\n", 3),
        ("machine_type: q35\n{% endfor %}\n", 2),
        ("machine_type: q35\n{{ name | nofilter }}\n", 2),
    ],
)
def test_a_mistake_is_named_by_the_templates_own_file_and_line(tmp_path: Path, body: str, line: int) -> None:
    assert refused(tmp_path, body).message.startswith(f"{tmp_path / 't.yaml.j2'}:{line + BODY - 1}: ")


def test_an_undefined_variable_is_named_and_the_parameters_are_hinted_at(tmp_path: Path) -> None:
    error = refused(tmp_path, "machine_type: {{ nope }}")
    assert "'nope' is undefined" in error.message
    assert error.hint == "declared parameters are: count, name"


def test_a_mistake_in_an_imported_file_is_named_there(tmp_path: Path) -> None:
    (tmp_path / "parts.j2").write_text("\n\n{% if %}\n")
    error = refused(tmp_path, "machine_type: q35\n{% import 'parts.j2' as parts %}\n")
    assert error.message.startswith(f"{tmp_path / 'parts.j2'}:3: ")


def test_what_has_changed_since_is_read_anew(tmp_path: Path) -> None:
    body = "machine_type: q35\n{% import 'own.j2' as own %}\ncpus: {{ own.cpus }}"
    for cpus in (2, 3):
        (tmp_path / "own.j2").write_text(f"{{% set cpus = {cpus} %}}")
        # two writes within a tick of the file system's clock have one time
        os.utime(tmp_path / "own.j2", (cpus, cpus))
        assert written(tmp_path, body).spec({}).cpus == cpus
    assert written(tmp_path, "machine_type: q35\ncpus: 4").spec({}).cpus == 4


def test_a_template_that_changes_a_default_changes_it_for_itself(tmp_path: Path) -> None:
    head = "description: d\nparameters:\n  extra: {type: list, default: [], doc: d}\n---\n"
    body = "machine_type: q35\ncpus: {% set _ = extra.append(1) %}{{ extra | length }}"
    assert [written(tmp_path, body, head=head).spec({}).cpus for _ in range(2)] == [1, 1]


def test_what_a_template_renders_to_is_checked_by_line(tmp_path: Path) -> None:
    assert (
        f"{tmp_path / 't.yaml.j2'} (rendered):2: cpus: " in refused(tmp_path, "machine_type: q35\ncpus: none\n").message
    )
    assert f"{tmp_path / 't.yaml.j2'} (rendered):2: not valid" in refused(tmp_path, "a: 1\n]\n").message
    assert "renders to 2 YAML documents" in refused(tmp_path, "machine_type: q35\n--- \nmachine_type: q35\n").message
    assert "renders to 0 YAML documents" in refused(tmp_path, "").message


@pytest.mark.parametrize(
    "body",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ refuse.__globals__ }}",
        "{{ refuse.__code__.co_consts }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(refuse) }}",
        "{{ self.__init__.__globals__ }}",
        "{{ range.__self__ }}",
        "{% set x = name.__class__ %}{{ x() }}",
        "{{ range(10 ** 9) | list }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(tmp_path: Path, body: str) -> None:
    assert str(tmp_path / "t.yaml.j2") in refused(tmp_path, f"machine_type: q35\ncpu: {body}").message


@pytest.mark.parametrize("path", ["../secret.j2", "/etc/passwd"])
def test_a_template_reads_no_file_outside_its_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.j2").write_text("machine_type: q35")
    folder = tmp_path / "templates"
    folder.mkdir()
    message = refused(folder, f"{{% include '{path}' %}}").message
    assert f"t.yaml.j2:{BODY}: " in message
    assert path in message


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("description: d\nparameters: {}\n", "has no line '---'"),
        ("description: d\n---\n", "t.yaml.j2:1: parameters: Field required"),
        ("description: d\nparameters: {}\nother: 1\n---\n", "t.yaml.j2:3: other: Extra inputs"),
        (
            "description: d\nparameters:\n  a: {type: float, default: 1, doc: x}\n---\n",
            "t.yaml.j2:3: parameters.a.type: ",
        ),
        (
            "description: d\nparameters:\n\n  a: {type: int, default: x, doc: x}\n---\n",
            "t.yaml.j2:4: default of a: got str",
        ),
        (
            "description: d\nparameters:\n  a: {type: int, default: 9, max: 5, doc: x}\n---\n",
            "t.yaml.j2:3: default of a: ",
        ),
        ("description: d\nparameters: {a: [}\n---\n", "t.yaml.j2:2: not valid YAML"),
        ("# nothing\n---\n", "t.yaml.j2:1: a template begins with"),
    ],
)
def test_a_wrong_declaration_is_named_by_line(tmp_path: Path, head: str, message: str) -> None:
    assert message in refused(tmp_path, "machine_type: q35\n", head=head).message


def test_a_dash_line_in_the_body_is_the_bodys(tmp_path: Path) -> None:
    chosen = written(tmp_path, "machine_type: q35\n# a\n---\n{{ nope }}\n")
    assert chosen.body.startswith("machine_type: q35\n")
    with pytest.raises(InputError, match=f":{BODY + 3}: "):
        chosen.render({})
