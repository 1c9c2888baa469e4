"""What the commands exit with, besides 0 (docs/cli.md).

Invariant: a code means the same on every command. 2, wrong usage, is click's own.
"""

FAILED = 1  # it cannot be done, or not to the end
DENIED = (
    3  # the policies would deny observed traffic, or allow more than the budget; one question of `can`: not allowed
)
INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 141  # 128 + SIGPIPE
