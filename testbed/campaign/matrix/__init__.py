"""Matrix: every combination of scenarios, machines, command lines and what else a cell depends on."""
