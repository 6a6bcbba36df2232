"""A user's own kvm trace, read line by line: exit loops that make no progress, and the accesses that completed."""
