"""The `simulator` command's parts: a module per sub-command with HELP, `add_arguments` and `run`, and what
several of them share (`inputs`: the trace)."""
