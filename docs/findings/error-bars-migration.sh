#!/bin/sh
# Does a machine migrate after a device sent its root port an error? WHAT: error, or none (the control).
# Needs only QEMU 6.1 or later: the machine stays stopped. Exit status: 0 refused, 1 migrated, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}
case ${1:-error} in
    error) inject='pcie_aer_inject_error dev COMP_ABORT' ;;
    none) inject='info version' ;;
    *) echo "usage: $0 error|none"; exit 2 ;;
esac
state=$(mktemp) || exit 2
trap 'rm -f "$state"' EXIT
machine() {
    $QEMU -M q35 -S -nodefaults -display none -monitor stdio \
        -device pcie-root-port,id=rp,addr=3,chassis=1 -device virtio-rng-pci,aer=on,id=dev,bus=rp "$@" 2>&1
}
# what a guest enables: bus numbers and SERR# in the port and behind it, SERR# in the device, and both Device Controls
sent=$(machine <<END
o /w 0xcf8 0x80001818
o /w 0xcfc 0x00010100
o /w 0xcf8 0x80001804
o /w 0xcfc 0x00000100
o /w 0xcf8 0x8000183c
o /w 0xcfc 0x00020000
o /w 0xcf8 0x8000185c
o /w 0xcfc 0x00000007
o /w 0xcf8 0x80010004
o /w 0xcfc 0x00000100
o /w 0xcf8 0x80010048
o /w 0xcfc 0x00000007
$inject
migrate "exec:cat > $state"
info migrate
quit
END
)
case $sent in *tatus:*completed*) ;; *) printf '%s\n' "$sent"; exit 2 ;; esac
came=$({ sleep 3; echo info migrate; echo quit; } | machine -incoming "exec:cat $state")
case $came in *tatus:*completed*) echo migrated; exit 1 ;; esac
printf '%s\n' "$came" | grep -E 'Bad config data|load of migration failed' || exit 2
