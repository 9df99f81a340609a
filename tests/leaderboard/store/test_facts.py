"""Facts of fits: typed records in the engine, JSON objects with the keys of 0.1 in the store."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from leaderboard.store.facts import FinalFacts, TrialFacts
from leaderboard.store.store import Fit

LOSSES = st.floats(-1e9, 1e9)
BY_FIDELITY = st.dictionaries(st.integers(1, 9), LOSSES, max_size=3)


def kept(facts: dict[str, Any]) -> Fit:
    """A fit with these facts as they come back from the store."""
    return Fit("study", "search", 0, {}, 0, "complete", 0.5, json.loads(json.dumps(facts)))


@given(
    LOSSES,
    st.lists(LOSSES | st.none()),
    st.none() | st.text(),
    st.none() | st.integers(1, 64),
    BY_FIDELITY,
    BY_FIDELITY,
)
def test_facts_of_trials_come_back(
    seconds: float,
    losses: list[float | None],
    error: str | None,
    members: int | None,
    low: dict[int, float],
    subsets: dict[int, float],
) -> None:
    facts = TrialFacts(seconds, losses, error, members, low, dict.fromkeys(low, 2), subsets)
    assert TrialFacts.of(kept(facts.stored())) == facts


def test_stored_keys_are_those_of_the_first_version() -> None:
    facts = TrialFacts(1.5, [0.3, None], "why", 4, {1: 0.5}, {1: 2}, {3: 0.25})
    assert facts.stored() == {
        "seconds": 1.5,
        "losses": [0.3, None],
        "error": "why",
        "together": 4,
        "drafts": {"1": 0.5},
        "tried": {"1": 2},
        "parts": {"3": 0.25},
    }
    assert TrialFacts().stored() == {"seconds": 0.0, "losses": []}


def test_facts_of_final_fits_come_back() -> None:
    facts = FinalFacts(0.9, 0.8, 0.85, {"accuracy": 0.85}, 1.0, 0.1, 1 << 20, None, "two layers", [0.5, None])
    assert FinalFacts.of(kept(facts.stored())) == facts
    assert set(facts.stored()) == {
        *("public", "private", "valid", "metrics", "fit_seconds", "predict_seconds"),
        *("peak_memory", "n_parameters", "summary", "curve"),
    }
