"""The work of the paper's commands, one task in each file; see `tenet.tasks`."""
