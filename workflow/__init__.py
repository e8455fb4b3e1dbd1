"""The pipeline of the paper: rules, scripts that rules run, and the library behind both."""
