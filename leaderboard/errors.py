"""What goes wrong with a store, in a sentence."""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot be opened, read or written. One sentence: what came and what to do."""


def no_results(name: str) -> StoreError:
    return StoreError(
        f"there are no results in {name} yet; `bakeoff run TASK` makes some, --home and --store name others"
    )


def newer(name: str, version: int, known: int) -> StoreError:
    return StoreError(
        f"{name} was written by a newer Bakeoff (schema {version}, this one reads up to {known}); upgrade Bakeoff"
    )


def not_written(name: str, reason: object) -> StoreError:
    return StoreError(
        f"{name} could not be written ({reason}); what was recorded before is safe, "
        "and the same command goes on from there"
    )
