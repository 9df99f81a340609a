"""`Result`, the record of one evaluated entry, and `content_key`, the hash that identifies requests, fits and results."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self


class Status(StrEnum):
    """Outcome of an entry or of a single fit, as it is stored."""

    COMPLETE = "complete"
    FAILED = "failed"
    INVALID = "invalid"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out-of-memory"
    CPU_LIMIT = "cpu-limit"
    PROCESS_LIMIT = "process-limit"
    OUTPUT_LIMIT = "output-limit"
    DISK_LIMIT = "disk-limit"
    PRUNED = "pruned"
    """Outcome of trials only: a row of a board is never pruned."""


STATUSES = tuple(status for status in Status if status is not Status.PRUNED)
"""Statuses that a row of a board may have."""


@dataclass(frozen=True)
class Result:
    """One row of a board without its rank. Scores are in the metric's units, times in seconds, memory in MB (10^6 bytes)."""

    result_id: str
    entry: str
    """Content key of the request: task, data, source and budget. All attempts at the same request share it."""
    task: str
    task_version: int
    kind: str
    submission: str
    metric: str
    higher_is_better: bool
    status: str
    error: str | None = None
    score: float | None = None
    score_std: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    seeds: list[float] = field(default_factory=list)
    seed_interaction: float = 0.0
    """Part of the variance of the mean over seeds due to the finite number of hidden samples (seed by sample interaction)."""
    units: int = 0
    """Number of independent hidden samples: all hidden samples, or blocks of them if neighbours overlap; 0 if unknown."""
    public_score: float | None = None
    private_score: float | None = None
    valid_score: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    references: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    """Notes on this entry for readers of a board, where a flag marks entries with notes."""
    params: dict[str, Any] = field(default_factory=dict)
    history: list[list[float]] = field(default_factory=list)
    """Pairs (number of trials, best validation score so far), one for each improvement during the search."""
    importance: dict[str, float] = field(default_factory=dict)
    """Importance of each hyperparameter in the search, as shares that add up to 1; empty after too few trials."""
    n_trials: int = 0
    n_pruned: int = 0
    n_failed: int = 0
    fit_seconds: float | None = None
    predict_seconds: float | None = None
    search_seconds: float | None = None
    peak_memory_mb: float | None = None
    n_parameters: int | None = None
    energy_joules: float | None = None
    """Mean energy in joules of one final seed: its fit and its predictions.

    None on a machine without a meter, on a cluster, if recorded seeds were reused, and after more than ten minutes, because the
    meter may have wrapped.
    """
    summary: str = ""
    device: str = "cpu"
    isolation: str = "process"
    """Isolation tier that the code ran under: sandbox-a, sandbox-b or process; file for submitted predictions."""
    probe: dict[str, str] = field(default_factory=dict)
    """Result of each probe of the isolation tier on this machine: the name of an attempt to escape, then ``open`` or ``closed``."""
    study: str = ""
    """Key under which the store keeps the trials and final seeds of this entry; empty for submitted predictions."""
    source: str = ""
    """Name of the submission's file among the files kept with the result, with ``:Object`` if the user named an object in it."""
    source_sha256: str = ""
    data_sha256: str = ""
    secret_id: str = ""
    """Fingerprint of the store's secret, from which the order of queries and the halves were drawn. Empty: from public facts."""
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    created_at: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status should be one of {', '.join(STATUSES)}; it is {self.status!r}")
        if type(self.status) is not str:
            object.__setattr__(
                self, "status", str(self.status)
            )  # database drivers bind an enum member in their own way
        if self.status == Status.COMPLETE and not (self.score is not None and math.isfinite(self.score)):
            raise ValueError(f"a complete result needs a finite score; it has {self.score}")

    @property
    def complete(self) -> bool:
        """True if the evaluation succeeded, so that there is a score."""
        return self.status == Status.COMPLETE

    def row(self) -> dict[str, Any]:
        """Return the result as a dict with one key for each field. Nested values are not copied."""
        return dict(vars(self))  # not `asdict`, whose deep copies cost more than the rest of a large board

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Return the result that a stored row describes. Unknown keys are ignored; missing optional ones get their defaults."""
        return cls(**{name: value for name, value in row.items() if name in cls.__dataclass_fields__})


def content_key(*parts: Any) -> str:
    """Return a hash of the given JSON values, 24 hexadecimal digits. Equal values have equal keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
