"""What the commands exit with, besides 0 (docs/cli.md).

Invariant: a code means the same on every command. 2, wrong usage, is click's own.
"""

FAILED = 1  # it cannot be done, or not to the end
# The policies would deny observed traffic, or allow more than --max-over-permission; for one question of `can`, the
# answer is not allow.
DENIED = 3
INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 141  # 128 + SIGPIPE
