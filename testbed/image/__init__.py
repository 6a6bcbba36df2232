"""From a kernel package to a bootable image in a content-addressed store."""
