"""The figures of the paper, a module each, drawn from the files of a results folder alone."""
