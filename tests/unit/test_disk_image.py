"""Disk images: how they are named, what of their headers is read, what a guest's records say, what touches PCI."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from testbed.campaign.disk_line import with_disk_line
from testbed.campaign.matrix.file import read_source
from testbed.campaign.matrix.matrix import expand
from testbed.campaign.setups import read_cell
from testbed.cli.commands import load
from testbed.explain.setting import option_effects, settings_of
from testbed.image.disk import disk_store
from testbed.image.disk.choice import chosen_kernel, chosen_system
from testbed.image.disk.content import content_digest
from testbed.image.disk.disk_modules import module_place, module_wants, write_tables
from testbed.image.disk.disk_name import DiskName, read_disk_name
from testbed.image.disk.disk_store import survey_disk
from testbed.image.disk.opened import opened
from testbed.image.disk.reader import Want
from testbed.image.disk.records import DamagedError, last_volume, parse_records
from testbed.image.disk.survey import systems_of
from testbed.model.errors import InputError
from testbed.model.setup import Setup
from tests.disks import qcow2_header
from tests.unit.kernel_files import RELEASE, bzimage

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.image.disk.opened import OpenDisk
    from testbed.image.disk.records import DiskRecords


def record(kind: str, name: str, content: bytes = b"", size: int | None = None) -> bytes:
    raw = name.encode("utf-8", "surrogateescape")
    header = struct.pack("<cIQQ", kind.encode(), len(raw), len(content) if size is None else size, len(content))
    return header + raw + content


def volume(name: str, **files: bytes) -> bytes:
    head = record("V", name, f"device={name}\ntype=ext4\nuuid={name}-id\nlabel=\nroot=\nerror=\n".encode(), 1 << 24)
    return head + b"".join(record("F", path, content) for path, content in files.items())


END = record("E", "")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("disk:a.qcow2", DiskName(file=Path("a.qcow2"))),
        ("disk:/x/a b.img,format=vdi", DiskName(file=Path("/x/a b.img"), format="vdi")),
        (
            "disk:a.raw,kernel=6.1.0-56-amd64,system=2,backing=yes",
            DiskName(file=Path("a.raw"), kernel="6.1.0-56-amd64", system=2, backing=True),
        ),
    ],
)
def test_names_of_disks(text: str, name: DiskName) -> None:
    assert read_disk_name(text) == name
    assert read_disk_name(str(name)) == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("disk:", "wanted disk:FILE"),
        ("disk:a,b", "wanted disk:FILE"),
        ("disk:a,format=qed", "format is one of raw, qcow2"),
        ("disk:a,system=0", "system is a number from 1"),
        ("disk:a,backing=on", "backing is one of yes, no"),
        ("disk:a,format=raw,format=vdi", "given twice"),
    ],
)
def test_what_names_no_disk(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_disk_name(text)


def test_the_format_is_said_or_known_from_the_name() -> None:
    assert DiskName(file=Path("a.VHDX")).known_format() == "vhdx"
    assert DiskName(file=Path("a.img"), format="qcow2").known_format() == "qcow2"
    with pytest.raises(InputError, match=r"its name does not tell its format"):
        DiskName(file=Path("disk")).known_format()


def check(folder: Path, name: str, content: bytes, *, backing: bool = False) -> list[str]:
    """Return the names of the files that are opened for an image."""
    (folder / name).write_bytes(content)
    with opened(DiskName(file=folder / name, backing=backing)) as disk:
        assert all(os.get_inheritable(file.fileno()) is False for file in disk.files)
        return [path.name for path in disk.paths]


def test_a_raw_disk_that_begins_as_another_format_is_not_taken_for_either(tmp_path: Path) -> None:
    """A guest can write such a header into its own first sector."""
    with pytest.raises(InputError, match=r"is treated as raw, but begins like a qcow2 image"):
        check(tmp_path, "a.raw", qcow2_header(size=1 << 20))
    with pytest.raises(InputError, match=r"does not begin like a qcow2 image"):
        check(tmp_path, "a.qcow2", bytes(512))


def test_files_that_a_header_names_are_opened_only_if_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "base.raw").write_bytes(bytes(4096))
    above = qcow2_header(size=4096, backing="base.raw", backing_format="raw")
    with pytest.raises(InputError, match=r"names another file, 'base.raw', which the test bed does not open"):
        check(tmp_path, "a.qcow2", above)
    assert check(tmp_path, "a.qcow2", above, backing=True) == ["a.qcow2", "base.raw"]
    with pytest.raises(InputError, match=r"names another file, 'data.raw'"):
        check(tmp_path, "a.qcow2", qcow2_header(size=4096, data_file="data.raw"))
    with pytest.raises(InputError, match=r"does not record its format"):
        check(tmp_path, "a.qcow2", qcow2_header(size=4096, backing="base.raw"), backing=True)
    with pytest.raises(InputError, match=r"'nbd://host/x', which is not a file"):
        check(tmp_path, "a.qcow2", qcow2_header(size=4096, backing="nbd://host/x", backing_format="raw"), backing=True)
    with pytest.raises(InputError, match=r"more than 32 backing files"):
        check(tmp_path, "a.qcow2", qcow2_header(size=4096, backing="a.qcow2", backing_format="qcow2"), backing=True)


def test_an_encrypted_image_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is encrypted"):
        check(tmp_path, "a.qcow2", qcow2_header(size=4096, crypt=2))


def test_a_vmdk_whose_data_are_elsewhere_is_refused(tmp_path: Path) -> None:
    text = b'# Disk DescriptorFile\nRW 63 FLAT "/etc/shadow" 0\n'
    with pytest.raises(InputError, match=r"describes a disk in other files"):
        check(tmp_path, "a.vmdk", text)
    sparse = b"KDMV" + struct.pack("<IIQQQQ", 1, 3, 0, 128, 1, 1) + bytes(400)
    with pytest.raises(InputError, match=r"describes a disk in other files"):
        check(tmp_path, "a.vmdk", sparse.ljust(512, b"\0") + text)
    child = b"KDMV" + struct.pack("<IIQQQQ", 1, 3, 2048, 128, 1, 1) + bytes(400)
    with pytest.raises(InputError, match=r"names another file, 'base.vmdk'"):
        check(tmp_path, "a.vmdk", child.ljust(512, b"\0") + b'parentFileNameHint="base.vmdk"\n')


@given(st.binary(max_size=600), st.sampled_from(["qcow2", "vmdk", "vdi", "vhdx", "raw"]))
def test_any_header_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, tail: bytes, suffix: str) -> None:
    folder = tmp_path_factory.mktemp("header")
    magics = {"qcow2": b"QFI\xfb", "vmdk": b"KDMV", "vdi": b"<<< ", "vhdx": b"vhdxfile", "raw": b""}
    try:
        check(folder, f"a.{suffix}", magics[suffix] + tail)
    except InputError:
        return


def test_a_disk_is_known_by_its_content_alone(tmp_path: Path) -> None:
    def digest(name: str, write: bytes, at: int, size: int = 8 << 20) -> str:
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
            file.seek(at)
            file.write(write)
        with (tmp_path / name).open("rb") as file:
            return content_digest([file], "raw")

    sparse = digest("a", b"x", 5 << 20)
    assert digest("b", bytes(2 << 20) + b"x", (5 << 20) - (2 << 20)) == sparse, "zeros that are written are zeros"
    assert digest("c", b"x", (5 << 20) + 1) != sparse
    assert digest("d", b"y", 5 << 20) != sparse
    assert digest("e", b"x", 5 << 20, size=9 << 20) != sparse


def test_what_is_kept_of_disks_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("testbed.image.disk.disk_store._KEPT_FILES", 4)  # a disk takes two
    reads: list[str] = []

    def read(disk: OpenDisk, *_: object) -> DiskRecords:
        reads.append(disk.paths[0].name)
        return parse_records(volume("vda1") + END)

    monkeypatch.setattr("testbed.image.disk.disk_store._read", read)
    for name in ("a", "b", "a", "c", "a", "b"):
        (tmp_path / f"{name}.raw").write_text(name)
        survey_disk(DiskName(file=tmp_path / f"{name}.raw"), progress=lambda _: None)
    assert reads == ["a.raw", "b.raw", "c.raw", "b.raw"], "the one least recently used went"
    assert len(list((tmp_path / "cache" / "disks").iterdir())) == 4


def test_what_another_version_keeps_of_a_disk_is_not_taken_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    read_by: list[int] = []

    def read(*_: object) -> DiskRecords:
        read_by.append(disk_store.FORMAT)
        return parse_records(volume("vda1") + END)

    monkeypatch.setattr(disk_store, "_read", read)
    (tmp_path / "a.raw").write_text("a")
    for version in (1, 2, 1, 2):
        monkeypatch.setattr(disk_store, "FORMAT", version)
        survey_disk(DiskName(file=tmp_path / "a.raw"), progress=lambda _: None)
    assert read_by == [1, 2]
    # and were one in the other's place, its seal alone would not do
    first, second = sorted((tmp_path / "cache" / "disks").glob("*.json"))
    first.write_bytes(second.read_bytes())
    second.write_bytes(first.read_bytes())
    for version in (1, 2):
        monkeypatch.setattr(disk_store, "FORMAT", version)
        survey_disk(DiskName(file=tmp_path / "a.raw"), progress=lambda _: None)
    assert len(read_by) == 3


# -- what the guest has read --


def test_records() -> None:
    data = (
        record("T", "vda", b"gpt", 1 << 30)
        + volume("vda1", **{"etc/os-release": b"NAME=A"})
        + record("L", "vmlinuz", b"boot/vmlinuz-6")
        + record("D", "lib/modules/6")
        + record("X", "boot/vmlinuz-6", b"Input/output error", 12)
        + END
        + bytes(4096)
    )
    disk = parse_records(data)
    (only,) = disk.volumes
    assert (disk.table, disk.size, only.name, only.type, only.uuid) == ("gpt", 1 << 30, "vda1", "ext4", "vda1-id")
    assert only.files["etc/os-release"].content == b"NAME=A"
    assert only.links == {"vmlinuz": "boot/vmlinuz-6"}
    assert only.folders == {"lib/modules/6"}
    assert only.files["boot/vmlinuz-6"].error == "Input/output error"


def test_records_that_end_early_are_told_with_the_volume_that_was_read() -> None:
    data = volume("vda1") + volume("vda2", a=b"b")
    with pytest.raises(DamagedError):
        parse_records(data)
    assert last_volume(data) == "vda2"


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_are_records_or_damage(noise: bytes, at: int) -> None:
    whole = volume("vda1", a=b"b", c=b"d") + END
    at = min(at, len(whole))
    try:
        parse_records(whole[:at] + noise + whole[at:])
    except DamagedError:
        return


def test_names_that_no_module_has_become_no_paths() -> None:
    base = "lib/modules/6"
    assert str(module_place(f"{base}/kernel/net/igb.ko.xz", base)) == "kernel/net/igb.ko.xz"
    assert str(module_place(f"{base}/modules.dep", base)) == "modules.dep"
    odd = ("../../x.ko", "a/../../x.ko", "/etc/x.ko", "x\n.ko", "x .ko", "a//x.ko", ".//x.ko", "é.ko", "build/Makefile")
    assert [module_place(f"{base}/{name}", base) for name in odd] == [None] * len(odd)
    assert module_place("etc/passwd.ko", base) is None


def test_tables_choose_the_modules_that_are_asked_for(tmp_path: Path) -> None:
    base = "lib/modules/6"
    tables = {"modules.dep": b"kernel/igb.ko.xz: kernel/dca.ko.xz\nkernel/dca.ko.xz:\nkernel/nvme.ko.xz:\n"}
    disk = parse_records(volume("vda1", **{f"{base}/{name}": content for name, content in tables.items()}) + END)
    assert module_wants("vda1", base, tmp_path, ["igb"])[0].kind == "tree", "there are no tables"
    write_tables(disk.volume("vda1"), base, tmp_path)
    wants = module_wants("vda1", base, tmp_path, ["igb", "absent"])
    assert [want.pattern for want in wants] == [f"{base}/kernel/dca.ko.xz", f"{base}/kernel/igb.ko.xz"]


@pytest.mark.parametrize("name", ["../../../../etc/x.ko", "/etc/x.ko", "kernel/x y.ko", "passwd"])
def test_tables_that_lead_out_of_their_folder_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "modules.dep").write_text(f"kernel/igb.ko:\n{name}:\n")
    with pytest.raises(InputError, match=r"which is not a module"):
        module_wants("vda1", "lib/modules/6", tmp_path, ["igb"])


@pytest.mark.parametrize("pattern", ["a\nvda1 tree 9 /", "", "a\0b"])
def test_a_request_is_one_line(pattern: str) -> None:
    with pytest.raises(ValueError, match="cannot be requested"):
        Want(kind="path", pattern=pattern).line()


GRUB = b"menuentry 'A' {\n linux /vmlinuz-%s root=UUID=x pci=noaer\n}\n" % RELEASE.encode()


def test_a_boot_partition_of_its_own_belongs_to_its_root() -> None:
    root = volume("vda2", **{"etc/os-release": b'PRETTY_NAME="A 1"', "etc/fstab": b"UUID=vda1-id /boot ext4\n"})
    root += record("D", f"lib/modules/{RELEASE}")
    boot = volume("vda1", **{"grub/grub.cfg": GRUB, f"vmlinuz-{RELEASE}": bzimage()[: 1 << 16]})
    other = volume("vda3", **{"etc/os-release": b"NAME=B"})
    (only,) = systems_of(parse_records(boot + root + END))
    assert only.name == "A 1"
    (kernel,) = only.kernels
    assert (kernel.release, kernel.volume, kernel.modules) == (RELEASE, "vda1", ("vda2", f"lib/modules/{RELEASE}"))
    (entry,) = only.entries
    assert (entry.cmdline, only.kernel_of(entry), only.default_kernel()) == ("root=UUID=x pci=noaer", kernel, kernel)
    first, second = systems_of(parse_records(boot + root + other + END))
    assert (first, second.name, second.kernels, second.entries) == (only, "B", (), ())


def test_a_disk_without_a_system_says_what_it_could_not_look_into() -> None:
    luks = record("V", "vda1", b"type=luks\n")
    damaged = record("V", "vda2", b"type=ext4\nerror=Structure needs cleaning\n")
    words = r"could be found on it \(vda1 is encrypted; vda2 cannot be read: Structure needs cleaning\)"
    with pytest.raises(InputError, match=words):
        chosen_system(DiskName(file=Path("a.raw")), parse_records(luks + damaged + END))


def test_a_file_that_is_no_kernel_is_shown_as_such() -> None:
    (system,) = systems_of(parse_records(volume("vda", **{"boot/vmlinuz-1": b"MZ" + bytes(2000)}) + END))
    (kernel,) = system.kernels
    assert (kernel.release, kernel.error) == ("", "it is not an x86 Linux bzImage or vmlinux")
    assert system.default_kernel() is None


def test_a_kernel_that_is_one_efi_file_is_named_and_not_looked_into() -> None:
    boot = volume("vda1", **{"EFI/Linux/debian-6.1.efi": b""})
    (system,) = systems_of(parse_records(boot + volume("vda2", **{"etc/os-release": b"NAME=A"}) + END))
    words = r"has no usable 64-bit x86 kernel \(vda1:/EFI/Linux/debian-6.1.efi: .*\(UKI\), which the test"
    with pytest.raises(InputError, match=words):
        chosen_kernel(DiskName(file=Path("a.raw")), system)


def test_a_system_in_a_thin_pool_is_said_to_be_there() -> None:
    disk = parse_records(record("V", "vg/root", b"type=logical\nlabel=thin\n") + END)
    with pytest.raises(InputError, match=r"vg/root is a logical volume of type thin, which the test bed does not open"):
        chosen_system(DiskName(file=Path("a.raw")), disk)


def test_the_line_of_a_boot_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    two = GRUB + b"menuentry 'B' {\n linux /vmlinuz-6 single\n}\n"
    kernels = {f"boot/vmlinuz-{RELEASE}": bzimage(), "boot/vmlinuz-6": bzimage().replace(b"6.1.0-56", b"6.1.0-57")}
    disk = parse_records(volume("vda1", **{"boot/grub/grub.cfg": two}, **kernels) + END)
    said: list[str] = []
    monkeypatch.setattr("testbed.image.disk.disk_store.survey_disk", lambda name, progress: disk)

    def line(cmdline: str, image: str = "disk:/a.raw") -> str:
        return with_disk_line(Setup(machine="q35", image=image, cmdline=cmdline), progress=said.append).cmdline

    assert line("@image") == "root=UUID=x pci=noaer"
    assert len(said) == 1
    assert line("@image:2 nokaslr") == "single nokaslr"
    assert said[2:] == [
        f"that entry starts 6.1.0-57-amd64, the guest {RELEASE}: for the other add ,kernel=6.1.0-57-amd64"
    ]
    assert line("@images quiet") == "@images quiet"
    with pytest.raises(InputError, match=r"has no boot entry 3, it has 2"):
        line("@image:3")
    with pytest.raises(InputError, match=r"the image is debian, which has no boot entries"):
        line("@image", image="debian")


@pytest.mark.parametrize("cmdline", ["@image", "@image:2", "@image pci=nomsi"])
def test_a_disk_booted_by_its_own_loader_has_the_line_of_its_entry(cmdline: str) -> None:
    setup = Setup(machine="q35", image="disk:/a.raw", via="console", login="/a", cmdline=cmdline)
    with pytest.raises(InputError, match="with --via console: the disk's own loader supplies its entry's line"):
        with_disk_line(setup)
    assert with_disk_line(setup.model_copy(update={"cmdline": "pci=nomsi"})).cmdline == "pci=nomsi"


@pytest.mark.parametrize(
    "machine", [["q35{image=disk:/a.raw} @image"], ["q35", "--image=disk:/a.raw", "--cmdline=@image"]]
)
@pytest.mark.parametrize("command", ["run", "compare", "bisect"])
def test_a_scenario_that_lets_the_disk_boot_itself_refuses_it_too(command: str, machine: list[str]) -> None:
    """Its entry's line was typed a second time, in the loader's menu."""
    result = CliRunner().invoke(load(command), ["boots", "--machine", *machine])
    assert isinstance(result.exception, InputError), result.output
    assert "a scenario that lets the disk boot by itself" in str(result.exception)


@pytest.mark.parametrize("line", [{"cmdline": ["@image"], "image": ["disk:/a.raw"]}, {}], ids=["axes", "machine"])
def test_so_does_a_matrix_and_it_alone(line: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    disk = parse_records(volume("vda1", **{"boot/grub/grub.cfg": GRUB, f"boot/vmlinuz-{RELEASE}": bzimage()}) + END)
    monkeypatch.setattr("testbed.image.disk.disk_store.survey_disk", lambda name, progress: disk)
    axes = {"machine": ["q35"], **line} if line else {"machine": ["q35{image=disk:/a.raw} @image"]}
    with pytest.raises(InputError, match="a scenario that lets the disk boot by itself"):
        expand(read_source(None, {"scenario": ["disk-plug", "boots"], **axes}))
    assert expand(read_source(None, {"scenario": ["disk-plug"], **axes}))[0].cmdline == "root=UUID=x pci=noaer"


def test_so_does_a_cell_that_is_named() -> None:
    with pytest.raises(InputError, match="a scenario that lets the disk boot by itself"):
        read_cell("boots q35{image=disk:/a.raw} @image")


def test_a_matrix_refuses_it_whichever_way_comes_first() -> None:
    axes = {"scenario": ["disk-plug"], "image": ["disk:/a.raw"], "cmdline": ["@image"], "via": ["console", "agent"]}
    with pytest.raises(InputError, match="with --via console"):
        expand(read_source(None, axes), progress=lambda _: None)


def test_a_matrix_looks_a_disk_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = parse_records(volume("vda1", **{"boot/grub/grub.cfg": GRUB, f"boot/vmlinuz-{RELEASE}": bzimage()}) + END)
    looks: list[DiskName] = []
    said: list[str] = []

    def survey(name: DiskName, progress: Callable[[str], None]) -> DiskRecords:
        looks.append(name)
        progress("reading")
        return disk

    monkeypatch.setattr("testbed.image.disk.disk_store.survey_disk", survey)
    axes = {"scenario": ["disk-plug", "disk-unplug"], "image": ["disk:/a.raw"], "cmdline": ["@image", "quiet"]}
    cells = expand(read_source(None, axes), progress=said.append)
    assert [cell.cmdline for cell in cells] == ["root=UUID=x pci=noaer", "quiet"] * 2
    assert len(looks) == 1
    assert said[0] == "reading"


# -- settings --


@pytest.mark.parametrize(
    ("path", "line", "words", "suspicious"),
    [
        ("/etc/crontab", "*/5 * * * * root echo 1 > /sys/bus/pci/rescan", "rescans PCI buses", True),
        (
            "/etc/cron.d/x",
            "@reboot root setpci -s 01:00.0 COMMAND=0",
            "behind the back of the kernel and its drivers",
            True,
        ),
        ("/etc/udev/rules.d/9.rules", 'SUBSYSTEM=="pci", ATTR{remove}="1"', "not from its slot", True),
        ("/etc/udev/rules.d/9.rules", 'SUBSYSTEM=="pci", RUN+="/opt/x"', "as they appear and disappear", False),
        ("/etc/modprobe.d/a.conf", "blacklist shpchp", "keeps shpchp from being loaded", True),
        ("/etc/modprobe.d/a.conf", "options pciehp pciehp_poll_mode=1", "no effect where pciehp is built in", False),
        ("/etc/modprobe.d/a.conf", "options igb max_vfs=7", "with these parameters", False),
    ],
)
def test_settings_that_touch_pci(path: str, line: str, words: str, suspicious: bool) -> None:
    first, *_ = settings_of(path, f"# comment\n{line}\n")
    assert first[0] == line
    assert words in first[1].text
    assert first[1].suspicious is suspicious
    assert first[1].evidence == (f"{path}:2",)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/etc/crontab", "17 * * * * root cd / && run-parts --report /etc/cron.hourly"),
        ("/etc/udev/rules.d/9.rules", 'SUBSYSTEM=="net", RUN+="/opt/x"'),
        ("/usr/lib/udev/rules.d/8.rules", 'SUBSYSTEM=="pci", ENV{ID_MODEL_FROM_DATABASE}==""'),
        ("/usr/lib/udev/rules.d/6.rules", 'SUBSYSTEM=="i2c", ATTR{power/control}="on"'),
        ("/etc/modprobe.d/a.conf", "blacklist pcspkr"),
        ("/etc/crontab", "# echo 1 > /sys/bus/pci/rescan"),
    ],
)
def test_settings_that_do_not(path: str, line: str) -> None:
    assert list(settings_of(path, line)) == []


def test_options_with_a_known_effect() -> None:
    found = [(name, takes) for name, _, takes in option_effects("quiet pcie_aspm=off pci=nomsi,noats splash")]
    assert found == [("pcie_aspm=off", True), ("pci=nomsi", True), ("pci=noats", False)]
