"""Decisions: what is registered, what a check means, what is written. No loops, no HTTP statuses, no SQL."""
