#!/bin/sh
# Does a guest wake up from suspend to RAM? usage: pvh-suspend.sh KERNEL
# KERNEL: a vmlinux with a PVH entry (Linux: scripts/extract-vmlinux BZIMAGE), or as the control the bzImage itself
# Needs only QEMU and a static busybox. Exit status: 0 reset, 1 woken, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}
[ -f "$1" ] || { sed -n 2p "$0"; exit 2; }
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
mkdir "$work/root" && cp "$(command -v busybox)" "$work/root/busybox"
cat > "$work/root/init" <<'END'
#!/busybox sh
/busybox mkdir /dev /sys
/busybox mount -t devtmpfs d /dev
/busybox mount -t sysfs s /sys
exec > /dev/ttyS0 2>&1
echo 'guest: going to sleep'
echo mem > /sys/power/state
echo 'guest: awake'
while :; do /busybox sleep 1; done
END
chmod +x "$work/root/init" && (cd "$work/root" && find . | busybox cpio -o -H newc) > "$work/initrd" 2> /dev/null
# system_wakeup is refused until the guest sleeps, so it is repeated; with -no-reboot a reset ends QEMU
(echo '{"execute": "qmp_capabilities"}'; while sleep 1; do
    if grep -qs 'guest: awake' "$work/console"; then echo '{"execute": "quit"}'
    else echo '{"execute": "system_wakeup"}'; fi || exit
done) 2> /dev/null |
    timeout 120 $QEMU -M q35 -m 512 -nodefaults -no-reboot -display none -qmp stdio -serial "file:$work/console" \
        -kernel "$1" -initrd "$work/initrd" -append console=ttyS0 > "$work/qmp" 2>&1
grep '^guest:' "$work/console"
grep -oE '"(SUSPEND|WAKEUP|RESET)"|"reason": "[a-z-]*"' "$work/qmp" | tr '\n' ' '
echo
grep -q '"SUSPEND"' "$work/qmp" || exit 2
! grep -q 'guest: awake' "$work/console"
