"""Comparing cells: what differs between two of them, and which neighbours are alike."""
