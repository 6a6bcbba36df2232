#!/bin/sh
# Is DEVICE_DELETED missing after a device_del of DRIVER (default qemu-xhci; the control: usb-ehci) that was carried out?
# Needs only QEMU: the slot of a machine that was never started has no power, so QEMU deletes at once without asking the guest.
# Exit status: 0 missing, 1 sent, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}
DRIVER=${1:-qemu-xhci}

seen=$({
    cat <<END
{"execute": "qmp_capabilities"}
{"execute": "device_add", "arguments": {"driver": "$DRIVER", "id": "victim", "bus": "rp"}}
{"execute": "qom-list", "arguments": {"path": "/machine/peripheral"}}
{"execute": "device_del", "arguments": {"id": "victim"}}
END
    sleep 1  # events come in between; a deletion that is finished is announced at once
    cat <<END
{"execute": "qom-list", "arguments": {"path": "/machine/peripheral"}}
{"execute": "quit"}
END
} | $QEMU -M pc-q35-6.0 -S -nodefaults -display none -qmp stdio -device pcie-root-port,id=rp,chassis=1 | tr -d '\r')
printf '%s\n' "$seen" | grep -E 'DEVICE_DELETED|child<|error'
case $(printf '%s\n' "$seen" | grep -c "child<$DRIVER>") in 1) ;; *) exit 2 ;; esac  # there before, not afterwards
! printf '%s\n' "$seen" | grep -q '"DEVICE_DELETED", "data": {"device": "victim"'
