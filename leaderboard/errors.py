"""Errors of a store, each a sentence for the user."""

from __future__ import annotations


class StoreError(Exception):
    """Error of a store, a competition or its rules. The message is a sentence for the user: the cause, and often the next step."""


def no_results(name: str) -> StoreError:
    """Return the error for a store without results; ``name`` is the store's folder or URL for the message."""
    return StoreError(
        f"there are no results in {name} yet; `bakeoff run TASK` makes some, --home and --store name others"
    )


def newer(name: str, version: int, known: int) -> StoreError:
    """Return the error for the store ``name`` of schema ``version``, which this Bakeoff, up to schema ``known``, cannot read."""
    return StoreError(
        f"{name} was written by a newer Bakeoff (schema {version}, this one reads up to {known}); upgrade Bakeoff"
    )


def not_written(name: str, reason: object) -> StoreError:
    """Return the error for a failed write to ``name``, a store or a file; ``reason`` is the cause for the message."""
    return StoreError(
        f"{name} could not be written ({reason}); what was recorded before is safe, "
        "and the same command goes on from there"
    )
