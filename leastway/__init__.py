"""What people run and import: `leastway.pipeline` for Python, `leastway.cli` for the command line.

Invariant: importing this package imports nothing else, so that `leastway --help` is instant.
"""
