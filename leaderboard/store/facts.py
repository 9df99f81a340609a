"""Facts about recorded fits: typed records, and the JSON objects that the store keeps of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from leaderboard.store.store import Fit


@dataclass(frozen=True)
class TrialFacts:
    """Facts about one trial of a search, besides its parameters, status and score."""

    seconds: float = 0.0
    """Seconds of all fits of the trial; of a vectorized fit only the trial's share."""
    losses: Sequence[float | None] = ()
    """Losses that the full fit reported, in order; None for one that is not finite."""
    error: str | None = None
    members: int | None = None
    """Number of trials in the vectorized fit of this trial; None if it was fitted alone."""
    low_fidelity: Mapping[int, float] = field(default_factory=dict)
    """Validation losses (lower is better) after low-fidelity fits, by the tenths of the full budget that a fit had."""
    low_fidelity_reports: Mapping[int, int] = field(default_factory=dict)
    """Numbers of losses that the low-fidelity fits reported, by the tenths of the full budget that a fit had."""
    subsets: Mapping[int, float] = field(default_factory=dict)
    """Validation losses (lower is better) after fits on subsets, by the ninths of the training split that a fit had."""

    @classmethod
    def of(cls, fit: Fit) -> Self:
        """Return the facts about a recorded trial. Missing facts have their defaults."""
        facts = fit.facts
        return cls(
            float(facts.get("seconds", 0.0)),
            facts.get("losses", []),
            facts.get("error"),
            facts.get("together"),
            {int(key): loss for key, loss in facts.get("drafts", {}).items()},
            {int(key): reports for key, reports in facts.get("tried", {}).items()},
            {int(key): loss for key, loss in facts.get("parts", {}).items()},
        )

    def stored(self) -> dict[str, Any]:
        """Return the JSON object for the store. Its keys are those of version 0.1; facts that do not apply are left out."""
        facts: dict[str, Any] = {"seconds": self.seconds, "losses": list(self.losses)}
        if self.error is not None:
            facts["error"] = self.error
        if self.members is not None:
            facts["together"] = self.members
        if self.low_fidelity:
            facts["drafts"] = {str(key): loss for key, loss in self.low_fidelity.items()}
            facts["tried"] = {str(key): reports for key, reports in self.low_fidelity_reports.items()}
        if self.subsets:
            facts["parts"] = {str(key): loss for key, loss in self.subsets.items()}
        return facts


@dataclass(frozen=True)
class FinalFacts:
    """Facts about the final fit of one seed, scored on the hidden test.

    ``public`` and ``private`` are the scores on the two parts of the hidden samples, ``valid`` is the validation score. ``metrics``
    are all finite metrics on the hidden test. ``peak_memory`` is in bytes.
    """

    public: float
    private: float
    valid: float
    metrics: Mapping[str, float]
    fit_seconds: float
    predict_seconds: float
    peak_memory: int
    n_parameters: int | None
    summary: str
    curve: Sequence[float | None]
    """Losses that the fit reported, at most a thousand; None for one that is not finite. Empty for fits of older versions."""

    @classmethod
    def of(cls, fit: Fit) -> Self:
        """Return the facts about a recorded final fit."""
        facts = {**fit.facts, "curve": fit.facts.get("curve") or ()}
        return cls(**{name: facts[name] for name in cls.__dataclass_fields__})

    def stored(self) -> dict[str, Any]:
        """Return the JSON object that the store keeps of these facts, one key per field."""
        return dict(vars(self))
