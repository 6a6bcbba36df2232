#!/bin/sh
# After a function-level reset of a PF, is VF Enable still set although the VFs are gone? usage: vf-enable-after-flr.sh nvme|igb
# Needs only QEMU: the machine stays stopped. Exit status: 0 still set, 1 cleared, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}
# the device model, its PCI Express and SR-IOV capabilities, and the address of its first VF: PF 00:02.0 + First VF Offset
case $1 in
    nvme) device="nvme,serial=x,subsys=s,max_ioqpairs=6,msix_qsize=7,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2"
          express=080 sriov=120 vf=b0011 ;;
    igb) device=igb express=0a0 sriov=160 vf=b0090 ;;
    *) sed -n 2p "$0"; exit 2 ;;
esac
at() { printf '0xb0010%03x' $((0x$1 + $2)); }
# q35's ECAM at 0xb0000000, as firmware would set it. NumVFs 1, VF Enable and VF MSE; a look; the reset; a look.
# At the end power off through ACPI (PMBASE, ACPI_CNTL, PM1 control): QEMU would wait for more otherwise
seen=$(timeout 20 $QEMU -M q35 -S -nodefaults -display none -qtest stdio -device nvme-subsys,id=s -device "$device,addr=2" <<END
outl 0xcf8 0x80000060
outl 0xcfc 0xb0000001
readl $(at $sriov 0)
writew $(at $sriov 16) 1
writew $(at $sriov 8) 9
readw $(at $sriov 8)
readw $(at $sriov 16)
readl 0x${vf}008
writew $(at $express 8) 0x8000
readw $(at $sriov 8)
readw $(at $sriov 16)
readl 0x${vf}008
outl 0xcf8 0x8000f840
outl 0xcfc 0x601
outl 0xcf8 0x8000f844
outb 0xcfc 0x80
outw 0x604 0x2000
END
)
set -- express $(printf '%s\n' "$seen" | sed -n 's/^OK 0x0*\([0-9a-f]\)/\1/p')
[ $# = 8 ] && [ "${2#"${2%????}"}" = 0010 ] || { printf '%s\n' "$seen"; exit 2; }
echo "before: SR-IOV control $3, NumVFs $4, VF class $5"
echo "after:  SR-IOV control $6, NumVFs $7, VF class $8"
[ "$3 $4" = '9 1' ] && [ "$8" = ffffffff ] || exit 2
[ "$6" = 9 ]
