"""Structured log records of the live collector.

Invariant: a record has one constant sentence and its facts as fields, so that a person and a machine read the same.
Text from the wire goes into fields only, never into the sentence.
"""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("leastway.observe")


def note(message: str, **fields: object) -> None:
    """Something that is as it should be."""
    LOGGER.info(message, extra={"fields": fields})


def warn(message: str, **fields: object) -> None:
    """Something that is missing from the observation, or soon will be."""
    LOGGER.warning(message, extra={"fields": fields})


def fail(message: str, **fields: object) -> None:
    """Something that a person has to look at now."""
    LOGGER.error(message, extra={"fields": fields})
