"""What a host offers: packages, QEMU binaries and their features, accelerators, child processes."""
