"""A guest watched over its console alone: its own boot, its login, and commands by the shell there."""
