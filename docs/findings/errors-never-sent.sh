#!/bin/sh
# Does an error injected into e1000e or igb reach its root port? DEVICE: e1000e, igb, or virtio (the control).
# Needs only QEMU: the machine stays stopped. Exit status: 0 never sent, 1 sent, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}
case ${1:-e1000e} in  # its device model, and where its PCI Express capability is
    e1000e) device=e1000e express=e0 ;;
    igb) device=igb express=a0 ;;
    virtio) device=virtio-rng-pci,aer=on express=40 ;;
    *) echo "usage: $0 e1000e|igb|virtio"; exit 2 ;;
esac
control=$(printf '%x' $((0x$express + 8)))  # Device Control
# q35's ECAM at 0xb0000000: the port 00:03.0 is at 0xb0018000, the device 01:00.0 at 0xb0100000. What a guest enables: SERR#
# in the port, behind it (Bridge Control) and in the device, and the reporting enables of both functions' Device Control
seen=$($QEMU -M q35 -S -nodefaults -display none -monitor stdio \
    -device pcie-root-port,id=rp,addr=3,chassis=1 -device "$device,id=dev,bus=rp" <<END
o /w 0xcf8 0x80000060
o /w 0xcfc 0xb0000001
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
o /w 0xcf8 0x800100$control
o /w 0xcfc 0x00000007
pcie_aer_inject_error dev COMP_ABORT
xp /1hx 0xb01000$control
xp /1wx 0xb0100104
xp /1wx 0xb0018130
quit
END
)
value() { printf '%s\n' "$seen" | tr -d '\r' | sed -n "s/^0*b0$1: //p"; }
echo "Device Control $(value "1000$control"), uncorrectable status $(value 100104), root error status $(value 018130)"
case $seen in *'OK id: dev'*) ;; *) printf '%s\n' "$seen"; exit 2 ;; esac
[ "$(value 100104)" = 0x00008000 ] && [ "$(value 018130)" = 0x00000000 ]
