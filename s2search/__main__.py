"""`python -m s2search`: the command line."""

from s2search.cli.main import main

main()
