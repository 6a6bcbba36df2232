"""One behaviour question per file."""
