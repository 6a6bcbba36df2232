"""The shipped recipe, built for real from the configured package archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.host.packages import find_program, missing
from testbed.image.elf import is_elf64
from testbed.image.kernel import has_pvh_entry, read_header
from testbed.image.recipe import load_recipe
from testbed.image.store import ensure_image, find_image

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(not find_program("apt-get"), reason="this host has no apt"),
    pytest.mark.skipif(bool(missing()), reason=f"this host lacks {[need.name for need in missing()]}"),
]


@pytest.mark.seconds(20)
def test_debian_image_and_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    image = ensure_image("debian", progress=lambda _: None)
    assert image == find_image("debian")
    assert image.package.startswith(f"linux-image-{image.kernel} ")
    assert image.bzimage is not None
    assert read_header(image.bzimage.read_bytes(), source="built").release == image.kernel
    assert image.absent == ()
    assert {"virtio_blk", "igb", "igbvf", "dca", "nvme", "aer_inject"} <= set(image.modules)
    assert image.size == image.initramfs.stat().st_size <= 20_000_000
    assert image.vmlinux is not None
    vmlinux = image.vmlinux.read_bytes()
    assert is_elf64(vmlinux)
    assert has_pvh_entry(vmlinux)
    content = image.initramfs.read_bytes()
    for tool in load_recipe("debian").tools:
        assert str(find_program(tool)).lstrip("/").encode() + b"\0" in content
    for path in (b"init", b"bin/busybox", b"sbin/modprobe", b"dev/console"):
        assert path + b"\0" in content
    for name in image.modules:
        assert b"/" + name.encode() + b".ko\0" in content.replace(b"-", b"_")
