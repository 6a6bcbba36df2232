#!/bin/sh
# Does an injected error wipe the e1000e's Device Serial Number capability?
# Needs only QEMU: the machine stays stopped. Exit status: 0 seen, 1 not seen, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}

# q35's ECAM at 0xb0000000, as firmware would set it (00:00.0, 0x60): function 00:02.0 is then at 0xb0010000
seen=$($QEMU -M q35 -S -nodefaults -display none -monitor stdio -device e1000e,id=nic,addr=2,mac=52:54:00:12:34:56 <<'END'
o /w 0xcf8 0x80000060
o /w 0xcfc 0xb0000001
xp /3wx 0xb0010140
pcie_aer_inject_error nic COMP_ABORT 0x11223344 0x55667788 0x99aabbcc 0xddeeff00
xp /3wx 0xb0010140
quit
END
)
capability=$(printf '%s\n' "$seen" | tr -d '\r' | sed -n 's/^0*b0010140: //p')
before=$(printf '%s\n' "$capability" | sed -n 1p)
after=$(printf '%s\n' "$capability" | sed -n 2p)
printf '0x140 before the injection: %s\n0x140 after the injection:  %s\n' "$before" "$after"
case $seen in *'OK id: nic'*) ;; *) printf '%s\n' "$seen"; exit 2 ;; esac
[ "$before" = '0x00010003 0xff123456 0x525400ff' ] || exit 2
[ "$after" = '0x00000000 0x00000000 0x525400ff' ]
