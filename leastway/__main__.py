"""`python -m leastway`: the command line. Invariant: the same as the installed `leastway`."""

from leastway.cli import main

if __name__ == "__main__":
    main()
