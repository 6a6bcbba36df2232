"""From what a customer sent to who controls hot-plug, AER and PME, and why: rules, no boot."""
