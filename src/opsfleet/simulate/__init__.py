"""A simulated fleet: thousands of agents on loopback addresses, well or unwell as a scenario says.

It stands behind `opsfleet simulate` and `opsfleet demo`, the tests and the benchmarks.
"""
