"""This package is the `handoff` command. Results go to stdout, everything else to stderr."""
