"""The KVM lane: the test bed on a host with KVM, as its users have one; a nested host where this one has none."""
