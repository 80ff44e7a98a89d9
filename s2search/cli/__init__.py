"""The command line: one file per command, each of which parses, calls `s2search.api` and prints."""
