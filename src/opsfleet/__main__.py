"""`python -m opsfleet` is the command `opsfleet`."""

from opsfleet.cli import main

if __name__ == "__main__":
    main()
