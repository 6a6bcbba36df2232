#!/bin/sh
# Does the Header Log hold an injected TLP header with each word byte-swapped?
# Needs only QEMU: the machine stays stopped. Exit status: 0 seen, 1 not seen, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}

# q35's ECAM at 0xb0000000, as firmware would set it (00:00.0, 0x60): the port 00:03.0 is at 0xb0018000, its AER capability
# at 0x100, the Header Log at 0x11c
seen=$($QEMU -M q35 -S -nodefaults -display none -monitor stdio -device pcie-root-port,id=rp,addr=3,chassis=1 <<'END'
o /w 0xcf8 0x80000060
o /w 0xcfc 0xb0000001
pcie_aer_inject_error rp COMP_ABORT 0x4a000001 0x01008004 0x00000100 0x12345678
xp /4wx 0xb001811c
quit
END
)
log=$(printf '%s\n' "$seen" | tr -d '\r' | sed -n 's/^0*b001811c: //p')
printf 'injected:   0x4a000001 0x01008004 0x00000100 0x12345678\nHeader Log: %s\n' "$log"
case $seen in *'OK id: rp'*) ;; *) printf '%s\n' "$seen"; exit 2 ;; esac
[ "$log" = '0x0100004a 0x04800001 0x00010000 0x78563412' ]
