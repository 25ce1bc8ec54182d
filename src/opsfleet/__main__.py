"""`python -m opsfleet` is the command `opsfleet`."""

from opsfleet.cli import main

main()
