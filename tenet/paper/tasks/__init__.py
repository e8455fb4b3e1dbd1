"""What the commands of the paper do, a file a task; see `tenet.tasks`."""
