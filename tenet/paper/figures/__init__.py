"""The figures of the paper, a module each, drawn from the files of a results folder alone.

A function draws each figure. The function takes the root of all results (`results`, a path), and
further arguments of the figure. For `simulated`, None stands for the word of the acquisition. The
function returns a Matplotlib `Figure`. If a file is missing, the function raises a `TenetError`
that names the file.
"""
