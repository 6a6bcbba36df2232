"""From a description to a running, controllable machine."""
