"""The command `opsfleet`: one module per command."""


def main() -> None:
    """Run the command line."""
