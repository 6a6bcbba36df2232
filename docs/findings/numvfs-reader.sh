#!/bin/sh
# Does reading sriov_numvfs block while VFs are being removed? usage: numvfs-reader.sh KERNEL MODULES
# KERNEL: a bzImage; MODULES: its /lib/modules/VERSION. Needs only QEMU 8.0 or later (igb) and a static busybox.
# Exit status: 0 it blocks, 1 it does not, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}
[ -d "$2" ] || { sed -n 2,3p "$0"; exit 2; }
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
mkdir "$work/root" && cp "$(command -v busybox)" "$work/root/busybox"
for name in dca i2c-algo-bit igb; do find "$2" -name "$name.ko*" -exec cp {} "$work/root" \; ; done
cat > "$work/root/init" <<'END'
#!/busybox sh
export PATH=/bin; /busybox mkdir /bin /dev /proc /sys; /busybox --install -s /bin
mount -t devtmpfs d /dev; mount -t proc p /proc; mount -t sysfs s /sys
exec > /dev/ttyS0 2>&1
for name in dca i2c-algo-bit igb; do insmod /$name.ko*; done
numvfs=/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs
now() { cut -d' ' -f1 /proc/uptime; }
echo 1 > $numvfs; sleep 1; echo "guest: $(now) VFs: $(cat $numvfs)"
(echo "guest: $(now) remover starts"; echo 0 > $numvfs; echo "guest: $(now) remover is done") &
sleep 0.2
echo "guest: $(now) reader starts"
cat $numvfs > /read & reader=$!
sleep 0.1; echo "guest: reader's stack: $(tail -n +1 /proc/$reader/stack | tr '\n' ' ')"
wait $reader; echo "guest: $(now) reader read: $(cat /read)"
wait; poweroff -f
END
chmod +x "$work/root/init" && (cd "$work/root" && find . | busybox cpio -o -H newc) > "$work/initrd" 2> /dev/null
timeout 100 $QEMU -M q35 -m 512 -cpu max -nodefaults -no-reboot -display none -serial stdio -append 'console=ttyS0 quiet' \
    -kernel "$1" -initrd "$work/initrd" -device pcie-root-port,id=rp,chassis=1 -device igb,bus=rp |
    tr -d '\r' | grep -o 'guest: .*' | tee "$work/log"
grep -q 'VFs: 1' "$work/log" || exit 2
grep -q 'reader read: 0' "$work/log"
