#!/bin/sh
# Does Linux crash when a bridge is hot-added for which there is no bus number? usage: bridge-without-bus.sh KERNEL [RESERVE]
# KERNEL: a bzImage; RESERVE: bus numbers that the firmware keeps for the slot (4: the control)
# Needs only QEMU and a static busybox. Exit status: 0 crashed, 1 not, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}
[ -f "$1" ] || { sed -n 2,3p "$0"; exit 2; }
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
mkdir "$work/root" && cp "$(command -v busybox)" "$work/root/busybox"
cat > "$work/root/init" <<'END'
#!/busybox sh
/busybox mkdir /dev
/busybox mount -t devtmpfs d /dev
echo 'guest: ready' > /dev/ttyS0
while :; do /busybox sleep 1; done
END
chmod +x "$work/root/init" && (cd "$work/root" && find . | busybox cpio -o -H newc) > "$work/initrd" 2> /dev/null
{
    for second in $(seq 60); do sleep 1; grep -qs 'guest: ready' "$work/console" && break; done
    echo 'device_add pcie-pci-bridge,id=bridge,bus=rp'
    sleep 15
    echo quit
} | $QEMU -M q35 -m 512 -nodefaults -display none -monitor stdio -serial "file:$work/console" -append console=ttyS0 \
    -kernel "$1" -initrd "$work/initrd" -device "pcie-root-port,id=rp,chassis=1${2:+,bus-reserve=$2}" \
    -device pcie-root-port,id=next,chassis=2 > /dev/null
grep -E 'No bus number|BUG:|RIP: 0010:shpc|shpchp.*(HPC|registered)' "$work/console"
grep -q '1b36:000e' "$work/console" || exit 2
grep -q 'BUG: kernel NULL pointer' "$work/console"
