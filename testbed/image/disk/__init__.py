"""A disk image of somebody else's: its file systems, what boots from them, and the kernel in it."""
