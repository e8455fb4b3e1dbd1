"""Settings of experiments: their schema, and the files they are read from."""
