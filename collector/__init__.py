"""Traffic in, patterns out: sources read records, `Patterns` counts them, and `settlement` says who opened what.

Invariant: nothing here knows what a policy is.
"""
