"""Numbers, times and columns as text."""

from __future__ import annotations

import math
from collections.abc import Sequence


def format_number(value: float | None) -> str:
    """Format a score: at least four significant digits from 1 on (1.516, 12.34), four decimals and no leading zero below 1 (.9926).

    Absolute values below 0.0005 get an exponent (1.2e-05), and None is a dash.
    """
    if value is None:
        return "–"
    if value == 0:
        return "0"
    digits = max(0, 3 - math.floor(math.log10(abs(value)))) if abs(value) >= 1 else 4
    text = f"{value:.{min(digits, 4)}f}" if abs(value) >= 5e-4 else f"{value:.1e}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def format_seconds(value: float | None) -> str:
    """Format a duration, given in seconds, in milliseconds, seconds or minutes: 250 ms, 12.3 s, 2.5 min. None is a dash."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"


def format_count(value: int | None) -> str:
    """Format a count: 950, 12 k, 3.4 M. None is a dash."""
    if value is None:
        return "–"
    return f"{value / 1e6:.1f} M" if value >= 1e6 else f"{value / 1e3:.0f} k" if value >= 1e4 else str(value)


def align_columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return one line of text for each row of cells in ``lines``, with aligned columns.

    The second column (names) is aligned to the left, all others to the right. The first row sets the number of columns. The last
    cell of a shorter row may have any width.
    """
    columns = len(lines[0])
    widths = [0] * columns
    for line in lines:
        for column, text in enumerate(line if len(line) == columns else line[:-1]):
            widths[column] = max(widths[column], len(text))
    text_lines = []
    for line in lines:
        padded = [text.ljust(w) if column == 1 else text.rjust(w) for column, (text, w) in enumerate(zip(line, widths))]
        if len(line) < columns:
            padded[-1] = line[-1]
        text_lines.append("  " + "  ".join(padded).rstrip())
    return text_lines
