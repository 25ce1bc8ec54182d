"""The words of the product as frozen dataclasses and pure functions. No I/O, the standard library only."""
