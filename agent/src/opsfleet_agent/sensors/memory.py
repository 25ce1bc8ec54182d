"""How full the memory is."""

import psutil


def memory_percent() -> float | None:
    """Return the share of memory that is not available to programs, in percent; None where it cannot be read."""
    try:
        return float(psutil.virtual_memory().percent)
    except (OSError, RuntimeError, ValueError):
        return None
