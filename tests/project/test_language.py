"""Bounds on the code's language. Run as a script it prints the counts: ``python tests/project/test_language.py``."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
CODE = ("harness", "leaderboard")
ALL = (*CODE, "tasks", "baselines", "tests", "benchmarks")
WEAK_OPENING = re.compile(r"\W*(what|who|those|of|where|which|that)\b", re.IGNORECASE)

OLD_NAMES = {
    *("Ledger", "Begun", "Found", "Manner", "considered", "estimated", "regarded", "taught"),
    *("Drafts", "foreseen", "Foreseen", "ninths", "worthy", "parted", "climb", "all_of_them"),
    *("in_chunks", "in_cohorts", "shared_out", "as_one", "look_around", "Replayed", "doubt", "Bait"),
    *("Room", "Home", "Places", "Station", "Held", "Facts", "Given", "FitData"),
    *("Parcel", "nameless", "Crew", "Setting", "Bench", "Excess", "too_loud", "Ground"),
    *("portray", "are_held", "hands", "Closes", "separated", "MANNERS", "GONE", "heeds_budget"),
    *("remarks", "fit_together"),
}
"""Names of the old dialect that have no second meaning. Old public names live in `harness.deprecated` as strings."""
STORED = {"remarks"}
"""Fields of stored rows, which keep their names."""


def files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((REPOSITORY / folder).rglob("*.py"))


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring of a file, those of attributes included."""
    for node in ast.walk(ast.parse(path.read_text())):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield statement.lineno, value.value


def weak_openings() -> list[str]:
    return [
        f"{path.relative_to(REPOSITORY)}:{line}: {text.strip()[:80]}"
        for path in files(*ALL)
        for line, text in docstrings(path)
        if WEAK_OPENING.match(text)
    ]


def old_names() -> list[str]:
    """Definitions of old names: classes, functions and attributes in class bodies."""
    found = []
    for path in files(*CODE):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "name", None)
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name = node.target.id
            if name in OLD_NAMES and name not in STORED:
                found.append(f"{path.relative_to(REPOSITORY)}: {name}")
    return found


def repeated_classes() -> dict[str, list[str]]:
    homes = defaultdict(list)
    for path in files(*CODE):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(str(path.relative_to(REPOSITORY)))
    return {name: paths for name, paths in homes.items() if len(paths) > 1}


def ambiguous_constants() -> dict[str, set[str]]:
    """Constants at the top of modules that have one name and several values."""
    values = defaultdict(set)
    for path in files(*CODE):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and "migrations" not in path.parts:
                for target in node.targets:
                    pairs = [(target, node.value)]
                    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                        pairs = list(zip(target.elts, node.value.elts, strict=True))
                    for name, value in pairs:
                        if isinstance(name, ast.Name) and name.id.isupper() and len(name.id) > 1:
                            values[name.id].add(ast.unparse(value))
    return {name: found for name, found in values.items() if len(found) > 1}


def test_docstrings_open_with_their_subject() -> None:
    assert not weak_openings()


def test_old_names_are_gone() -> None:
    assert not old_names()


def test_a_class_has_one_home() -> None:
    assert not repeated_classes()


def test_a_constant_has_one_value() -> None:
    assert not ambiguous_constants()


if __name__ == "__main__":
    for title, found in (
        ("docstrings that open with a weak word", weak_openings()),
        ("old names still defined", old_names()),
        ("classes defined twice", repeated_classes()),
        ("constants with several values", ambiguous_constants()),
    ):
        print(f"{len(found):4d}  {title}", *found, sep="\n      ")
