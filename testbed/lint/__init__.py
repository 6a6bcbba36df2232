"""What is wrong, and what is worth knowing, in the configuration spaces of PCI functions."""
