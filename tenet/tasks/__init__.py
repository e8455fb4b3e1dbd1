"""The work of the commands, one task in each file. The code hash of the rules follows the tasks.

A task reads its inputs, prints notes and warnings on standard error, and returns the lines that the
command prints. A task imports all modules at the top of its file, so that the hash finds the
modules.
"""
