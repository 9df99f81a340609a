"""Boards as text, JSON, CSV, Markdown or Parquet. `leaderboard.statistics.ranking` makes the rows, `leaderboard.site` pages."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from leaderboard.formatting import align_columns, format_count, format_number, format_seconds
from leaderboard.result import Status
from leaderboard.text import markdown_cell, spreadsheet_cell, visible

Row = Mapping[str, Any]
Boards = Mapping[str, Sequence[Row]]

HEADINGS = ("rank", "submission", "score", "95 % interval", "valid", "trials", "fit", "predict", "memory", "parameters")


def rank_labels(rows: Sequence[Row]) -> list[str]:
    """Return the labels of the rank column: "1", or "2–4" for an entry whose true rank may be 2 to 4; empty without a rank."""
    return [
        "" if low is None else str(low) if low == high else f"{low}–{high}"
        for low, high in ((row["rank_low"], row["rank_high"]) for row in rows)
    ]


def cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells of each row as text, with the columns of `HEADINGS`; an incomplete row has only status, name and error."""
    lines: list[tuple[str, ...]] = []
    for rank_label, row in zip(rank_labels(rows), rows, strict=True):
        if row["status"] != Status.COMPLETE:
            lines.append((row["status"], row["submission"], str(row["error"])))
            continue
        memory = row["peak_memory_mb"]
        lines.append(
            (
                rank_label,
                flagged_name(row),
                format_number(row["score"]),
                f"{format_number(row['ci_low'])} – {format_number(row['ci_high'])}",
                format_number(row["valid_score"]),
                str(row["n_trials"]),
                format_seconds(row["fit_seconds"]),
                format_seconds(row["predict_seconds"]),
                "–" if memory is None else f"{memory:.0f} MB",
                format_count(row["n_parameters"]),
            )
        )
    return lines


def heading(task: str, rows: Sequence[Row]) -> str:
    """Return the heading of a board: ``digits: accuracy, higher is better``, then the reference scores of the task."""
    row = rows[0]
    text = f"{task}: {row['metric']}, {'higher' if row['higher_is_better'] else 'lower'} is better"
    references = [
        f"{name.removeprefix(row['metric']).strip('_').replace('_', ' ')} {format_number(value)}"
        for name, value in row["references"].items()
    ]
    return text + (f" ({', '.join(references)})" if references else "")


def unsandboxed_note(rows: Sequence[Row]) -> str:
    """Return a sentence that names the complete entries run without a sandbox; empty if there are none."""
    names = [row["submission"] for row in rows if row["isolation"] == "process" and row["status"] == Status.COMPLETE]
    return f"ran without a sandbox, where code could have read the labels: {', '.join(names)}" if names else ""


def notes(rows: Sequence[Row]) -> list[str]:
    """Return the notes under a board: its resolution, remarks on single entries, and entries run without a sandbox."""
    remarks = [f"⚑ {row['submission']}: {remark}" for row in rows for remark in row.get("remarks", ())]
    return [*filter(None, (resolution_note(rows), *remarks, unsandboxed_note(rows)))]


def resolution_note(rows: Sequence[Row]) -> str:
    """Return a sentence about the smallest significant difference between entries of a board; empty if it is unknown."""
    value = rows[0]["resolution"] if rows else None
    if not value:
        return ""
    return f"differences below about {format_number(value)} cannot be told from chance here, among {count_ranked(rows)} entries"


def count_ranked(rows: Sequence[Row]) -> int:
    """Return the number of rows that have a rank."""
    return sum(row["rank"] is not None for row in rows)


def flagged_name(row: Row) -> str:
    """Return the name of a row's submission, with a flag if the row has remarks."""
    return f"{row['submission']} ⚑" if row.get("remarks") else str(row["submission"])


def table(boards: Boards) -> str:
    """Return boards as aligned text for a terminal."""
    blocks = []
    for task, rows in boards.items():
        lines = [heading(task, rows), *align_columns([HEADINGS, *cells(rows)]), *(f"  {note}" for note in notes(rows))]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def markdown(boards: Boards) -> str:
    """Return boards as Markdown tables."""
    blocks = []
    for task, rows in boards.items():
        lines = [
            f"### {markdown_cell(heading(task, rows))}",
            "",
            f"| {' | '.join(HEADINGS)} |",
            f"|{'---|' * len(HEADINGS)}",
        ]
        for line in cells(rows):
            padded = [markdown_cell(text) for text in line] + [""] * (len(HEADINGS) - len(line))
            lines.append(f"| {' | '.join(padded)} |")
        for note in notes(rows):
            lines += ["", markdown_cell(note)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def flatten(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows with nested values as JSON text, for formats that have columns only."""
    return [
        {
            name: json.dumps(value)
            if isinstance(value, (dict, list))
            else visible(value)
            if isinstance(value, str)
            else value
            for name, value in row.items()
        }
        for row in rows
    ]


def csv_text(boards: Boards) -> str:
    """Return all rows of boards as one CSV table."""
    rows = flatten(merge_boards(boards))
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: spreadsheet_cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def json_text(boards: Boards) -> str:
    """Return all rows of boards as one JSON list."""
    return json.dumps(merge_boards(boards), indent=2, allow_nan=False)


def parquet(boards: Boards) -> bytes:
    """Return all rows of boards as the bytes of one Parquet file."""
    import pandas as pd

    out = io.BytesIO()
    pd.DataFrame(flatten(merge_boards(boards))).to_parquet(out)
    return out.getvalue()


def merge_boards(boards: Boards) -> list[Row]:
    """Return the rows of all boards in one list, board after board."""
    return [row for rows in boards.values() for row in rows]
