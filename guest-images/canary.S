/*
 * canary.S - the smallest guest that proves an accelerator: it prints, takes timer ticks and exits.
 *
 * /dev/kvm can open, QEMU can start on it and the firmware can run, and still no interrupt ever reaches the guest.
 * So the canary says `up` on COM1, takes TICKS interrupts of the PIT, says `ticks`, and ends QEMU through
 * isa-debug-exit. Should nothing tick, it waits in `hlt` and whoever started it ends it.
 *
 * A 32-bit multiboot image, because QEMU's -kernel refuses 64-bit ones; pure assembly, so that no 32-bit libc is
 * needed.
 */
        .set    TICKS, 5
        .set    EXIT_CODE, 0x2a                 /* QEMU's exit status is twice that, plus one */

        .set    COM1, 0x3f8
        .set    PIC1, 0x20
        .set    PIC2, 0xa0
        .set    PIT, 0x40
        .set    DEBUG_EXIT, 0xf4

        .set    VECTOR, 0x20                    /* where the PIC puts IRQ 0, the PIT */
        .set    CODE, 0x08
        .set    DATA, 0x10

        .macro  output port, value
        movb    $\value, %al
        outb    %al, $\port
        .endm

        .text
        .align  4
        .long   0x1badb002, 0, -0x1badb002      /* multiboot: magic, flags, checksum */

        .globl  _start
_start:
        cli
        cld
        movl    $stack_end, %esp
        lgdt    gdt_pointer                     /* multiboot leaves segments, but not the table they came from */
        ljmp    $CODE, $1f
1:      movl    $DATA, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss

        movl    $up, %esi
        call    print

        movl    $tick, %eax                     /* the gate's offset is split around its selector and type */
        movw    %ax, idt + VECTOR * 8
        shrl    $16, %eax
        movw    %ax, idt + VECTOR * 8 + 6
        movw    $CODE, idt + VECTOR * 8 + 2
        movw    $0x8e00, idt + VECTOR * 8 + 4   /* present, ring 0, 32-bit interrupt gate */
        lidt    idt_pointer

        output  PIC1, 0x11                      /* both PICs: initialize, vector, cascade, 8086 mode, mask */
        output  PIC2, 0x11
        output  PIC1 + 1, VECTOR
        output  PIC2 + 1, VECTOR + 8
        output  PIC1 + 1, 4
        output  PIC2 + 1, 2
        output  PIC1 + 1, 1
        output  PIC2 + 1, 1
        output  PIC1 + 1, 0xfe                  /* IRQ 0 alone */
        output  PIC2 + 1, 0xff

        output  PIT + 3, 0x34                   /* channel 0, rate generator */
        output  PIT, 11932 & 0xff               /* 1193182 Hz / 11932: 100 ticks a second */
        output  PIT, 11932 >> 8

        sti
2:      hlt
        cmpl    $TICKS, ticks
        jb      2b

        cli
        movl    $ticked, %esi
        call    print
        output  DEBUG_EXIT, EXIT_CODE
3:      hlt                                     /* a QEMU without the device stays here */
        jmp     3b

/* Count a tick and acknowledge it. */
tick:
        pushl   %eax
        incl    ticks
        output  PIC1, 0x20
        popl    %eax
        iret

/* Print the string at ESI on COM1, which QEMU never makes wait. */
print:
        movw    $COM1, %dx
1:      lodsb
        testb   %al, %al
        jz      2f
        outb    %al, %dx
        jmp     1b
2:      ret

up:     .asciz  "canary: up\n"
ticked: .asciz  "canary: ticks\n"

        .data
        .align  8
gdt:    .quad   0
        .quad   0x00cf9a000000ffff              /* code: 0 to 4 GiB */
        .quad   0x00cf92000000ffff              /* data: 0 to 4 GiB */
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .long   gdt

idt:    .fill   VECTOR + 1, 8, 0
idt_end:
idt_pointer:
        .word   idt_end - idt - 1
        .long   idt

ticks:  .long   0
        .fill   1024, 1, 0
stack_end:

        .section .note.GNU-stack, "", @progbits
