"""Storage, statistics and presentation of results. Imports nothing from the harness that produces them."""

from leaderboard.result import Result as Result
from leaderboard.statistics.ranking import rank as rank
from leaderboard.store.store import Store as Store
from leaderboard.store.store import StoreError as StoreError
from leaderboard.tables.rows import Rows as Rows
from leaderboard.tables.rows import difference as difference
from leaderboard.tables.rows import load as load

__all__ = ["Result", "Rows", "Store", "StoreError", "difference", "load", "rank"]
