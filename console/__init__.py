"""This package is the operator's side: the `handoff` command, the web console and the practice sandbox."""
