#!/bin/sh
# How long is a VF of igb without carrier or traffic after its PF has recovered from an error, and does down-up cure it?
# usage: vf-after-recovery.sh KERNEL MODULES fatal|non-fatal [SECONDS]; KERNEL a bzImage, MODULES its /lib/modules/VERSION
# Needs only QEMU 8.0 or later and a static busybox. Exit status: 0 out of order for 10 s or more, 1 not, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}
case $3 in fatal) bit='\000\000\004\000' ;; non-fatal) bit='\000\200\000\000' ;; *) sed -n 3p "$0"; exit 2 ;; esac
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
mkdir "$work/root" && cp "$(command -v busybox)" "$work/root/busybox"
for name in dca i2c-algo-bit igb igbvf aer_inject; do find "$2" -name "$name.ko*" -exec cp {} "$work/root" \; ; done
cat > "$work/root/init" <<END
#!/busybox sh
export PATH=/bin; /busybox mkdir -p /bin /dev /proc /sys; /busybox --install -s /bin
mount -t devtmpfs d /dev; mount -t proc p /proc; mount -t sysfs s /sys; exec > /dev/ttyS0 2>&1
for name in dca i2c-algo-bit igb igbvf aer_inject; do insmod /\$name.ko*; done
pf=/sys/bus/pci/devices/0000:01:00.0; card=\$(ls \$pf/net)
now() { cut -d. -f1 /proc/uptime; }
ip address add 10.0.0.1/24 dev \$card; ip link set \$card up; sleep 3; echo 1 > \$pf/sriov_numvfs; sleep 1
vf=\$(ls \$pf/virtfn0/net); ip link set \$vf up
state() { # arping -D fails when it is answered, here by the PF
    [ "\$(cat /sys/class/net/\$vf/carrier)" = 1 ] || { echo no-carrier; return; }
    if arping -D -q -c 1 -w 1 -I \$vf 10.0.0.1; then echo no-traffic; else echo works; fi
}
for try in \$(seq 60); do [ "\$(state)" = works ] && break; sleep 1; done
echo "guest: \$(now) s: before the error VF \$(state)"
{ printf '\001\000\000\000$bit'; head -c 24 /dev/zero; } > /error; cat /error > /dev/aer_inject; end=\$((\$(now) + ${4:-60}))
while [ \$(now) -lt \$end ]; do
    new=\$(state); [ "\$new" = "\$old" ] || echo "guest: \$(now) s: VF \$new"; old=\$new
    [ "\$new" = works ] || { last=\$(now); first=\${first:-\$last}; }; sleep 1
done
echo "guest: out of order for \$((\${last:-0} - \${first:-0})) s"
[ "\$old" = works ] || { ip link set \$vf down; ip link set \$vf up; sleep 15; echo "guest: after down-up VF \$(state)"; }
poweroff -f
END
chmod +x "$work/root/init" && (cd "$work/root" && find . | busybox cpio -o -H newc) > "$work/initrd" 2> /dev/null
$QEMU -M q35 -m 512 -cpu max -nodefaults -no-reboot -display none -serial stdio -kernel "$1" -initrd "$work/initrd" \
    -append 'console=ttyS0' -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off -device pcie-root-port,id=rp,chassis=1 \
    -device igb,bus=rp,netdev=hub -netdev hubport,id=hub,hubid=0 | tr -d '\r' | grep --line-buffered -E 'guest:|recovery' |
    tee "$work/log"
grep -q 'before the error VF works' "$work/log" && grep -q 'device recovery successful' "$work/log" || exit 2
grep -qE 'out of order for [0-9]{2,} s' "$work/log"
