"""Loops and schedules. Every decision is a service's."""
