"""One experiment verb per file."""
