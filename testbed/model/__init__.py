"""Pure values: PCI, kernel command line, log records, specs, cells, findings, outcomes, errors."""
