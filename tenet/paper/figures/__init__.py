"""The figures of the paper, a module each, drawn from the files of a results folder alone.

A function draws each figure. It takes the root of all results (`results`, a path), and what only
this figure needs; where it takes `simulated`, None stands for what the acquisition says. It returns
a Matplotlib `Figure`, and raises `TenetError`, which names the file, where a file is missing.
"""
