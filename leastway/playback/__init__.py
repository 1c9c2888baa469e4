"""Captures played back as if they were a live cluster: demonstrations without one, and the servers of our own tests."""
