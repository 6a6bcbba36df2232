#!/bin/sh
# Is the link of a root port with a device behind it never active under ACPI hot-plug?
# MODE: acpi (the default), native (the control). Needs only QEMU: the machine stays stopped.
# Exit status: 0 not active, 1 active, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}
case ${1:-acpi} in
    acpi) support=on ;;
    native) support=off ;;
    *) echo "usage: $0 acpi|native"; exit 2 ;;
esac

# q35's ECAM at 0xb0000000; the port 00:03.0 is at 0xb0018000, its PCI Express capability at 0x54 of it: Link Capabilities at
# 0x60 (bit 20: reports whether the link is active), Link Status at 0x66 (bit 13: it is), Slot Status at 0x6e (bit 6: occupied)
seen=$($QEMU -M q35 -S -nodefaults -display none -monitor stdio -device pcie-root-port,id=rp,addr=3,chassis=1 \
    -device e1000e,bus=rp -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=$support <<'END'
o /w 0xcf8 0x80000060
o /w 0xcfc 0xb0000001
xp /1wx 0xb0018060
xp /1hx 0xb0018066
xp /1hx 0xb001806e
quit
END
)
value() { printf '%s\n' "$seen" | tr -d '\r' | sed -n "s/^0*b00180$1: //p"; }
echo "Link Capabilities $(value 60), Link Status $(value 66), Slot Status $(value 6e)"
[ $(($(value 60) >> 20 & 1)) = 1 ] || exit 2
[ $(($(value 66) >> 13 & 1)) = 0 ]
