"""Outcomes to terminal, JSON and rundir files."""
