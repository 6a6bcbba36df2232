#!/bin/sh
# Does QEMU abort when a bridge is hot-added whose id matches one of its property names? ID: shpc (default), br (the control)
# Needs only QEMU: the machine stays stopped. Exit status: 0 aborted, 1 added, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}

seen=$(printf '%s\n' '{"execute": "qmp_capabilities"}' \
    '{"execute": "device_add", "arguments": {"driver": "pci-bridge", "id": "'"${1:-shpc}"'", "chassis_nr": 1}}' \
    '{"execute": "quit"}' | $QEMU -M pc -S -nodefaults -display none -qmp stdio 2>&1 | tr -d '\r')
printf '%s\n' "$seen" | grep -v QMP
case $seen in *'attempt to add duplicate property'*) exit 0 ;; esac
[ "$(printf '%s\n' "$seen" | grep -c '{"return": {}}')" = 3 ] && exit 1
exit 2
