"""Where `s2search` and `python -m s2search` begin: Ctrl-C is one line while the commands are still being imported."""

import sys


def main() -> None:
    """Run the command line; see `s2search.cli.main`."""
    try:
        from s2search.cli.main import main as run
    except KeyboardInterrupt:
        sys.stderr.write("s2search: interrupted; nothing was begun\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
