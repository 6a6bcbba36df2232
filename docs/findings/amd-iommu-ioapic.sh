#!/bin/sh
# Is the address space through which the I/O APIC sends its interrupts behind an amd-iommu empty?
# Needs only QEMU: the machine stays stopped. Exit status: 0 empty, 1 not empty, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}

# devfn 160 is 00:14.0, the requester id that QEMU gives the I/O APIC (AMDVI_IOAPIC_SB_DEVID)
seen=$(printf 'info mtree -f\nquit\n' | $QEMU -M q35 -accel tcg -S -nodefaults -display none -monitor stdio \
    -device amd-iommu | tr -d '\r' | sed -n '/^FlatView/h; /^FlatView/!H; /^$/{x; /amd_iommu_devfn_160"/p}')
printf '%s\n' "$seen"
case $seen in *amd_iommu_devfn_160*) ;; *) exit 2 ;; esac
printf '%s\n' "$seen" | grep -q 'No rendered FlatView'
