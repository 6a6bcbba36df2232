"""What can be said to a running machine, a line each: `plug virtio-blk on rp2`, `sh lspci`, `query-pci`."""
