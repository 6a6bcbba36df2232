"""The OS inside: shell verbs, its PCI tree, its kernel log, who controls its hot-plug."""
