"""Kernels from .deb and .rpm files: what the files say, how parts find each other, and what is refused."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.host.apt import dependencies, read_fields
from testbed.host.packages import find_program
from testbed.host.tools import run_tool
from testbed.image import package_file, rpm
from testbed.image.package_file import describe_deb
from testbed.image.package_kernel import PackageKernel
from testbed.model.errors import BedError, InputError
from tests.unit.kernel_files import IMAGE, MODULES, RELEASE, bzimage, write_deb, write_files, write_rpm

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.image.source import FetchedKernel

pytestmark = pytest.mark.skipif(not find_program("bsdtar"), reason="this host has no bsdtar")
WHOLE = {**IMAGE, **MODULES}
FEDORA = {f"lib/modules/{RELEASE}/vmlinuz": bzimage(), f"lib/modules/{RELEASE}/modules.builtin": b""}


def fetch(tmp_path: Path, *files: Path) -> FetchedKernel:
    source = PackageKernel(format=files[0].suffix[1:], files=files)
    return source.fetch(tmp_path / "scratch", lambda _: None, [])


def check(found: FetchedKernel, package: str) -> None:
    assert (found.release, found.package) == (RELEASE, package)
    assert found.kernel.read_bytes() == bzimage()
    assert (found.modules / "kernel/drivers/net/igb.ko").is_file()


@pytest.mark.parametrize("compression", ["gz", "xz", "zst"])
def test_one_deb(tmp_path: Path, compression: str) -> None:
    if compression == "zst" and not find_program("zstd"):
        pytest.skip("this host has no zstd")
    path = write_deb(tmp_path, WHOLE, name=f"linux-image-{RELEASE}", compression=compression)
    check(fetch(tmp_path, path), f"linux-image-{RELEASE} 6.1-1")


@pytest.mark.skipif(not find_program("dpkg-deb"), reason="this host has no dpkg-deb")
def test_a_deb_of_dpkgs(tmp_path: Path) -> None:
    control = b"Package: linux-image-6.1\nVersion: 1:6.1-2\nArchitecture: amd64\nDescription: d\nMaintainer: m <m@m>\n"
    write_files(tmp_path / "tree", {**WHOLE, "DEBIAN/control": control})
    run_tool(["dpkg-deb", "-b", tmp_path / "tree", tmp_path / "k.deb"], doing="building a package")
    check(fetch(tmp_path, tmp_path / "k.deb"), "linux-image-6.1 1:6.1-2")


@pytest.mark.parametrize("compression", ["gz", "xz", "zst"])
def test_one_rpm(tmp_path: Path, compression: str) -> None:
    if compression == "zst" and not find_program("zstd"):
        pytest.skip("this host has no zstd")
    path = write_rpm(tmp_path, WHOLE, name="kernel", compression=compression)
    check(fetch(tmp_path, path), "kernel 4.18.0-553.el8")


def ubuntu(folder: Path) -> list[Path]:
    """Write a meta package, an image and its modules; each depends on the next."""
    folder.mkdir(exist_ok=True)
    return [
        write_deb(folder, {}, name="linux-image-generic", depends=f"linux-image-{RELEASE} (= 6.1-1), thermald"),
        write_deb(folder, IMAGE, name=f"linux-image-{RELEASE}", depends=f"kmod, linux-modules-{RELEASE} | other"),
        write_deb(folder, MODULES, name=f"linux-modules-{RELEASE}"),
    ]


def test_debs_beside_the_given_one_are_followed(tmp_path: Path) -> None:
    files = ubuntu(tmp_path)
    assert PackageKernel(format="deb", files=(files[0],)).inputs() == files
    check(fetch(tmp_path, files[0]), f"linux-image-{RELEASE} 6.1-1")


def test_debs_in_several_folders_are_given(tmp_path: Path) -> None:
    image = ubuntu(tmp_path / "one")[1]
    modules = ubuntu(tmp_path / "two")[2].rename(tmp_path / "modules.deb")
    ubuntu(tmp_path / "one")[2].unlink()
    check(fetch(tmp_path, image, modules), f"linux-image-{RELEASE} 6.1-1")


def test_of_several_versions_beside_it_the_same_one_is_taken(tmp_path: Path) -> None:
    name = f"linux-modules-{RELEASE}"
    image = write_deb(tmp_path, IMAGE, name=f"linux-image-{RELEASE}", version="1:6.1-2", depends=name)
    versions = {version: write_deb(tmp_path, MODULES, name=name, version=version) for version in ("6.1-1", "1:6.1-2")}
    assert describe_deb(image).beside == (versions["1:6.1-2"],)
    versions["1:6.1-2"].unlink()
    assert describe_deb(image).beside == (versions["6.1-1"],), "the only one"
    write_deb(tmp_path, MODULES, name=name, version="6.1-3")
    assert describe_deb(image).beside == ()


@pytest.mark.parametrize("given_name", ["kernel", "kernel-core", "kernel-modules-core"])
def test_rpms_beside_the_given_one_are_followed(tmp_path: Path, given_name: str) -> None:
    contents = {"kernel": {}, "kernel-core": FEDORA, "kernel-modules-core": MODULES}
    files = {name: write_rpm(tmp_path, files, name=name) for name, files in contents.items()}
    write_rpm(tmp_path, FEDORA, name="kernel-core", release="999.el8")
    write_rpm(tmp_path, FEDORA, name="kernel-rt-core")
    assert sorted(PackageKernel(format="rpm", files=(files[given_name],)).inputs()) == sorted(files.values())
    check(fetch(tmp_path, files[given_name]), "kernel-core 4.18.0-553.el8")


def refused(tmp_path: Path, *files: Path) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        fetch(tmp_path, *files)
    return caught.value.message, caught.value.hint or ""


def test_rpm_without_modules_names_those_that_have_them(tmp_path: Path) -> None:
    message, hint = refused(tmp_path, write_rpm(tmp_path, FEDORA, name="kernel-core"))
    assert message == f"unpacking kernel-core 4.18.0-553.el8: it holds no modules for its kernel {RELEASE}"
    assert "kernel-modules-core, kernel-modules" in hint
    assert "rpm:FILE,FILE" in hint


def test_deb_without_modules_names_those_that_have_them(tmp_path: Path) -> None:
    _, image, modules = ubuntu(tmp_path)
    modules.unlink()
    message, hint = refused(tmp_path, image)
    assert f"linux-image-{RELEASE} 6.1-1: it holds no modules" in message
    assert f"in linux-modules-{RELEASE}: put them next to it" in hint


def test_meta_package_alone_names_the_image(tmp_path: Path) -> None:
    meta, image, _ = ubuntu(tmp_path)
    image.unlink()
    message, hint = refused(tmp_path, meta)
    assert "linux-image-generic 6.1-1" in message
    assert "found 0" in message
    assert f"linux-image-{RELEASE}" in hint


def test_package_of_something_else(tmp_path: Path) -> None:
    message, hint = refused(tmp_path, write_deb(tmp_path, {"bin/ls": b""}, name="coreutils"))
    assert "coreutils 6.1-1" in message
    assert "found 0" in message
    assert hint.startswith("give the package of a kernel image")


def test_modules_of_another_kernel(tmp_path: Path) -> None:
    image = write_deb(tmp_path, IMAGE, name=f"linux-image-{RELEASE}")
    other = write_deb(tmp_path, {"lib/modules/6.9/a.ko": b"x"}, name="linux-modules-6.9")
    assert f"no modules for its kernel {RELEASE}, but some for 6.9" in refused(tmp_path, image, other)[0]


def test_another_architecture(tmp_path: Path) -> None:
    arm = write_deb(tmp_path, WHOLE, name="linux-image-6.1-arm64", architecture="arm64")
    assert refused(tmp_path, arm)[0] == f"reading package {arm}: it is for arm64"
    arm = write_rpm(tmp_path, WHOLE, name="kernel-core", architecture="aarch64")
    assert refused(tmp_path, arm)[0] == f"reading package {arm}: it is for aarch64"


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_what_is_no_package(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    assert refused(tmp_path, path)[0] == f"reading package {path}: No such file or directory"
    path.write_bytes(b"")
    assert "it is not a" in refused(tmp_path, path)[0]
    other = (write_rpm if kind == "deb" else write_deb)(tmp_path, WHOLE, name="kernel")
    other.rename(path)
    assert f"it is not a{'n RPM' if kind == 'rpm' else ' Debian'} package" in refused(tmp_path, path)[0]


@pytest.mark.parametrize("kind", ["deb", "rpm"])
@pytest.mark.parametrize("part", [0.05, 0.2, 0.5, 0.9, 0.99])
def test_truncated_package(tmp_path: Path, kind: str, part: float) -> None:
    files = {**WHOLE, "usr/random": b"".join(struct.pack("<I", n * n) for n in range(9999))}
    path = (write_deb if kind == "deb" else write_rpm)(tmp_path, files, name="k")
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    message, hint = refused(tmp_path, path)
    assert message.startswith(f"reading package {path}: it is ")
    assert hint == "copy or download it again" or "not a Debian package" in message


def test_deb_without_a_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_deb(tmp_path, WHOLE, name="k")
    monkeypatch.setattr(package_file, "read_fields", lambda _: {"Package": "k", "Version": "1"})
    assert "its control file has no field Architecture" in refused(tmp_path, path)[0]


def test_missing_bsdtar_is_the_hosts_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rpm(tmp_path, WHOLE, name="kernel")
    monkeypatch.setattr("testbed.host.tools.find_program", lambda _: None)
    with pytest.raises(BedError, match="running bsdtar") as caught:
        fetch(tmp_path, path)
    assert not isinstance(caught.value, InputError)


def header(name: str = "kernel") -> bytes:
    return bytes(96) + b"\x8e\xad\xe8\x01" + bytes(12) + rpm_header({1000: name, 1001: "1", 1002: "2", 1022: "x86_64"})


def rpm_header(tags: dict[int, str]) -> bytes:
    store = b"".join(text.encode() + b"\0" for text in tags.values())
    offsets = [sum(len(text) + 1 for text in list(tags.values())[:place]) for place in range(len(tags))]
    index = b"".join(struct.pack(">IIII", tag, 6, at, 1) for tag, at in zip(tags, offsets, strict=True))
    return b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", len(tags), len(store)) + index + store


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_rpm_header_is_read_back(name: str) -> None:
    fields = rpm.read_header(header(name))
    assert fields == {"name": name, "version": "1", "release": "2", "architecture": "x86_64"}


@given(st.integers(96, 96 + 200), st.binary(min_size=1, max_size=8))
def test_garbled_rpm_headers_are_read_or_refused(offset: int, junk: bytes) -> None:
    content = bytearray(header())
    content[offset : offset + len(junk)] = junk
    with contextlib.suppress(ValueError, KeyError, struct.error):
        rpm.read_header(bytes(content))


@given(st.integers(0, len(header()) - 1))
def test_cut_off_rpm_headers_are_refused(length: int) -> None:
    with pytest.raises((ValueError, struct.error)):
        rpm.read_header(header()[:length])


@given(st.text())
def test_any_control_file_is_read(text: str) -> None:
    fields = read_fields(text)
    assert all(name and "\n" not in value for name, value in fields.items())
    dependencies(text)


def test_dependencies_are_the_first_of_each_alternative() -> None:
    assert dependencies("kmod, a:any (>= 2) | b,  c [amd64]") == ("kmod", "a", "c")
