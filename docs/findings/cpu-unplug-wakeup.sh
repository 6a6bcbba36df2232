#!/bin/sh
# Does QEMU crash as a guest wakes from suspend to RAM whose second CPU was unplugged?
# Needs only QEMU: firmware runs, and the monitor does what a guest would. Exit status: 0 crashed, 1 woken, 2 could not run.
QEMU=${QEMU:-qemu-system-x86_64}

# CPU hot-plug registers at 0xcd8: the first write of 0 changes to the interface that can unplug; CPU 1 selected, bit 3 ejects it.
# PM1 control at 0x604, which the firmware puts there: sleep type 1 is S3
seen=$({
    sleep 5  # the firmware
    printf '%s\n' 'o /w 0xcd8 0' 'device_del cpu1' 'o /w 0xcd8 1' 'o /b 0xcdc 8' 'info cpus' 'o /h 0x604 0x2400'
    sleep 1
    printf '%s\n' 'info status' 'system_wakeup'
    sleep 2
    printf '%s\n' 'info status' quit
} | $QEMU -M q35 -accel tcg -smp 1,maxcpus=2 -nodefaults -display none -monitor stdio \
    -device qemu64-x86_64-cpu,id=cpu1,socket-id=0,core-id=1,thread-id=0; printf "\nQEMU's exit status: %s" $?)
printf '%s\n' "$seen" | tr -d '\r' | grep -E '^\* CPU|^  CPU|^VM status|^QEMU.s exit'
case $seen in *'CPU #1'*) exit 2 ;; *suspended*) ;; *) exit 2 ;; esac
case $seen in *'status: 139') exit 0 ;; *'status: 0') exit 1 ;; esac
exit 2
