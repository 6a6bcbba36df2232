"""Cells to outcomes: cases, judging, who runs what when."""
