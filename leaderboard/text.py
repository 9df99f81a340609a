"""Text of strangers, made safe where it leaves: names, errors and file names may hold control characters, formulas or markup."""

from __future__ import annotations

import html
import re
from typing import Any, TextIO

FORMULA = re.compile(r"^[=+\-@\t\r]")
"""Start of a cell that spreadsheets compute."""


def visible(text: str, kept: str = "\n\t") -> str:
    """Return text with each character that is not printable written as its escape; ``kept`` characters stay.

    Among the others are a terminal's control sequences, marks that turn the direction of writing, and halves of surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in kept else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in text
    )


def visible_values(value: Any) -> Any:
    """Return a JSON value in which all texts, keys too, are `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(key) if isinstance(key, str) else key: visible_values(one) for key, one in value.items()}
    return [visible_values(one) for one in value] if isinstance(value, (list, tuple)) else value


def spreadsheet_cell(value: Any) -> Any:
    """Return a value for CSV: a text that a spreadsheet would compute gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def markdown_cell(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    escaped = html.escape(visible(text.replace("\n", " "), kept=""), quote=False)
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", escaped)


class VisibleStream:
    """Output stream that writes `visible` text. ``raw`` is the stream itself, for control characters of our own."""

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        self.raw.write(visible(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)
