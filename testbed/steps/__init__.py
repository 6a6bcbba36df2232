"""A scenario written as steps: the prompt's lines, what is waited for and what is expected, in a YAML file."""
