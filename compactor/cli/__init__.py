"""The command line, `compact`."""
