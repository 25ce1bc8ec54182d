"""Measured figures, and the commands that repeat them."""
