"""What the commands do, a file a task: what decides a result is followed by the rules' code hash.

A task reads what it is given, prints notes and warnings on standard error, and returns what the
command prints. Everything is imported at the top of its file, so that the hash finds it.
"""
