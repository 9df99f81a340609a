"""Errors of a store, each a sentence for the user."""

from __future__ import annotations


class StoreError(Exception):
    """A store that cannot be opened, read or written. The message says what came and what to do next."""


def no_results(name: str) -> StoreError:
    """Error for a store without results."""
    return StoreError(
        f"there are no results in {name} yet; `bakeoff run TASK` makes some, --home and --store name others"
    )


def newer(name: str, version: int, known: int) -> StoreError:
    """Error for a store of schema ``version``, which this Bakeoff, up to schema ``known``, cannot read."""
    return StoreError(
        f"{name} was written by a newer Bakeoff (schema {version}, this one reads up to {known}); upgrade Bakeoff"
    )


def not_written(name: str, reason: object) -> StoreError:
    """Error for a write that failed."""
    return StoreError(
        f"{name} could not be written ({reason}); what was recorded before is safe, "
        "and the same command goes on from there"
    )
