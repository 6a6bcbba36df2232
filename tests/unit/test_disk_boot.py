"""Boot entries of a disk, as GRUB, systemd-boot and extlinux have them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from testbed.image.disk.boot_files import mark_loader_default, newest_first, read_bls, read_extlinux
from testbed.image.disk.grub import read_grub, read_grubenv

#: what grub-mkconfig writes on Debian 12, shortened
DEBIAN = """\
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
else
   set default="0"
fi
function load_video {
  if [ x$feature_all_video_module = xy ]; then
    insmod all_video
  fi
}
### BEGIN /etc/grub.d/10_linux ###
menuentry 'Debian GNU/Linux' --class debian --class gnu-linux $menuentry_id_option 'gnulinux-simple-4f17' {
\tload_video
\tinsmod gzio
\tif [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
\tsearch --no-floppy --fs-uuid --set=root 4f17
\techo\t'Loading Linux 6.1.0-56-amd64 ...'
\tlinux\t/boot/vmlinuz-6.1.0-56-amd64 root=UUID=4f17 ro  quiet pcie_aspm=off
\tinitrd\t/boot/initrd.img-6.1.0-56-amd64
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-4f17' {
\tmenuentry 'Debian GNU/Linux, with Linux 6.1.0-56-amd64' --class debian $menuentry_id_option 'gnulinux-6.1-adv' {
\t\tlinux\t/boot/vmlinuz-6.1.0-56-amd64 root=UUID=4f17 ro  quiet pcie_aspm=off
\t}
\tmenuentry 'Debian GNU/Linux, with Linux 6.1.0-56-amd64 (recovery mode)' --class debian {
\t\tlinux\t/boot/vmlinuz-6.1.0-56-amd64 root=UUID=4f17 ro single dyndbg="file drivers/pci/* +p"
\t}
}
"""


def grub(text: str, **environment: str) -> list[tuple[str, str, bool]]:
    entries = read_grub(text, source="vda1:/boot/grub/grub.cfg", environment=environment)
    return [(entry.title, entry.cmdline, entry.default) for entry in entries]


def test_the_menu_of_debian() -> None:
    assert grub(DEBIAN) == [
        ("Debian GNU/Linux", "root=UUID=4f17 ro quiet pcie_aspm=off", True),
        (
            "Advanced options for Debian GNU/Linux > Debian GNU/Linux, with Linux 6.1.0-56-amd64",
            "root=UUID=4f17 ro quiet pcie_aspm=off",
            False,
        ),
        (
            "Advanced options for Debian GNU/Linux > Debian GNU/Linux, with Linux 6.1.0-56-amd64 (recovery mode)",
            'root=UUID=4f17 ro single "dyndbg=file drivers/pci/* +p"',
            False,
        ),
    ]
    first = read_grub(DEBIAN, source="vda1:/boot/grub/grub.cfg", environment={})[0]
    assert first.kernel == "/boot/vmlinuz-6.1.0-56-amd64"
    assert first.initrds == ("/boot/initrd.img-6.1.0-56-amd64",)
    assert first.source == "vda1:/boot/grub/grub.cfg:18"


def test_the_default_is_what_was_saved_in_any_of_its_names() -> None:
    saved = DEBIAN.replace('default="0"', 'default="${saved_entry}"')
    for name in ("1>1", "gnulinux-advanced-4f17>1", "Advanced options for Debian GNU/Linux>1"):
        assert [default for *_, default in grub(saved, saved_entry=name)] == [False, False, True]
    assert [default for *_, default in grub(saved, saved_entry="gnulinux-6.1-adv")] == [False, True, False]
    assert [default for *_, default in grub(saved)] == [True, False, False], "nothing was saved"
    assert [default for *_, default in grub(DEBIAN, next_entry="1>0")] == [False, True, False]
    assert [default for *_, default in grub(f"{DEBIAN}\nset default='1>1'\n")] == [False, False, True]


BLS = """\
title Red Hat Enterprise Linux (4.18.0-553.el8.x86_64) 8.10
version 4.18.0-553.el8.x86_64
linux /vmlinuz-4.18.0-553.el8.x86_64
initrd /initramfs-4.18.0-553.el8.x86_64.img $tuned_initrd
options $kernelopts $tuned_params pci=noaer
grub_users $grub_users
"""


def test_blscfg_stands_for_the_entries_of_loader_entries() -> None:
    names = ("abc-0-rescue.conf", "abc-4.18.0-80.el8.x86_64.conf", "abc-4.18.0-553.el8.x86_64.conf")
    bls = newest_first(
        filter(None, (read_bls(BLS, name=name, source=f"vda1:/loader/entries/{name}") for name in names))
    )
    assert [entry.names[0] for entry in bls] == [
        "abc-4.18.0-553.el8.x86_64",
        "abc-4.18.0-80.el8.x86_64",
        "abc-0-rescue",
    ]
    environment = read_grubenv(
        "# GRUB Environment Block\nsaved_entry=abc-4.18.0-80.el8.x86_64\nkernelopts=root=/dev/x ro\n####"
    )
    text = 'set default="${saved_entry}"\ninsmod blscfg\nblscfg\n'
    entries = read_grub(text, source="vda1:/grub2/grub.cfg", environment=environment, entries=bls)
    assert {entry.cmdline for entry in entries} == {"root=/dev/x ro pci=noaer"}
    assert [entry.default for entry in entries] == [False, True, False]


def test_what_was_saved_goes_before_a_default_under_a_condition() -> None:
    text = """\
if [ -z "${kernelopts}" ]; then
  set kernelopts="root=/dev/default ro"
fi
menuentry 'A' {
  linux ($root)/vmlinuz-6 ${kernelopts} $vt_handoff
}
"""
    assert grub(text) == [("A", "root=/dev/default ro", True)]
    assert grub(text, kernelopts="root=/dev/saved") == [("A", "root=/dev/saved", True)]
    assert grub(f"set kernelopts=root=/dev/always\n{text}", kernelopts="x") == [("A", "root=/dev/always", True)]


def test_systemd_boot_chooses_by_a_pattern() -> None:
    entries = [
        entry
        for name in ("arch.conf", "arch-lts+2-1.conf")
        if (entry := read_bls("title A\nlinux /vmlinuz\noptions a\noptions b\n", name=name, source="vda1:/x"))
    ]
    assert [entry.cmdline for entry in entries] == ["a b", "a b"]
    assert [entry.default for entry in mark_loader_default(entries, "timeout 3\ndefault arch-l*\n")] == [False, True]
    assert [entry.default for entry in mark_loader_default(entries, "")] == [True, False]
    assert read_bls("title Shell\nefi /shellx64.efi\n", name="shell.conf", source="vda1:/x") is None


def test_extlinux() -> None:
    text = """\
DEFAULT l1
MENU TITLE boot
LABEL l0
  MENU LABEL ^First
  KERNEL ../vmlinuz-a
  APPEND initrd=../initrd-a root=/dev/sda1 quiet
LABEL l1
  LINUX /boot/vmlinuz-b
  INITRD /boot/initrd-b
  APPEND root=/dev/sda1 pci=nomsi
LABEL local
  LOCALBOOT 0
"""
    entries = read_extlinux(text, source="vda1:/boot/extlinux/extlinux.conf")
    assert [(entry.title, entry.cmdline, entry.initrds, entry.default) for entry in entries] == [
        ("First", "root=/dev/sda1 quiet", ("../initrd-a",), False),
        ("l1", "root=/dev/sda1 pci=nomsi", ("/boot/initrd-b",), True),
    ]


@given(st.text(alphabet="menuentry submenu{}'\"\\\n\t$linux set default=>0if fi;#", max_size=400))
def test_any_text_is_a_menu(text: str) -> None:
    entries = read_grub(text, source="x", environment={}, entries=[])
    assert sum(entry.default for entry in entries) <= 1
    read_extlinux(text, source="x")
    read_bls(text, name="x", source="x")
    read_grubenv(text)
