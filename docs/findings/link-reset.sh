#!/bin/sh
# Does Linux's recovery from a fatal error fail because the link is never active? usage: link-reset.sh KERNEL MODULES acpi|native
# KERNEL: a bzImage; MODULES: its /lib/modules/VERSION. Needs QEMU 6.1 or later and a static busybox.
# Exit status: 0 the recovery failed, 1 it succeeded, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}
case $3 in acpi) support=on ;; native) support=off ;; *) sed -n 2,3p "$0"; exit 2 ;; esac
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
mkdir "$work/root" && cp "$(command -v busybox)" "$work/root/busybox"
for name in e1000e aer_inject; do find "$2" -name "$name.ko*" -exec cp {} "$work/root" \; ; done
cat > "$work/root/init" <<'END'
#!/busybox sh
export PATH=/bin; /busybox mkdir /bin /dev; /busybox --install -s /bin
mount -t devtmpfs d /dev; exec > /dev/ttyS0 2>&1
insmod /e1000e.ko*; insmod /aer_inject.ko*
# struct aer_error_inj: 01:00.0, uncorrectable status 0x40000 (malformed TLP, fatal), zeros
{ printf '\001\000\000\000\000\000\004\000'; head -c 24 /dev/zero; } > /error
cat /error > /dev/aer_inject
sleep 10; poweroff -f
END
chmod +x "$work/root/init" && (cd "$work/root" && find . | busybox cpio -o -H newc) > "$work/initrd" 2> /dev/null
timeout 100 $QEMU -M q35 -m 512 -cpu max -nodefaults -no-reboot -display none -serial stdio -append console=ttyS0 \
    -kernel "$1" -initrd "$work/initrd" -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=$support \
    -device pcie-root-port,id=rp,chassis=1 -device e1000e,bus=rp |
    tr -d '\r' | grep -E 'AER:|Link Active|aer_inject:' | tee "$work/log"
grep -qE 'device recovery (failed|successful)' "$work/log" || exit 2
grep -q 'device recovery failed' "$work/log"
