"""From a kernel source to a bootable image in a content-addressed store."""
