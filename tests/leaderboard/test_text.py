"""Text of strangers on terminals, in spreadsheets and in Markdown."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from leaderboard.tables import render
from leaderboard.text import VisibleStream, markdown_cell, spreadsheet_cell, visible, visible_values

anything = st.text(st.characters(codec=None, exclude_categories=()))


@given(anything)
def test_visible_text_has_no_control_characters_and_can_be_encoded(text: str) -> None:
    shown = visible(text)
    assert all(letter.isprintable() or letter in "\n\t" for letter in shown)
    shown.encode()
    assert visible(shown) == shown
    assert visible_values({"a": [text], text: 1})["a"] == [shown]


def test_printable_text_stays_and_escapes_are_told() -> None:
    assert visible("95 % – «é» 漢字\n") == "95 % – «é» 漢字\n"
    assert visible("\x1b[2Jred\u202e\ud800") == "\\x1b[2Jred\\u202e\\ud800"
    out = io.StringIO()
    print("\x1b]0;owned\x07", file=VisibleStream(out))  # type: ignore[arg-type]
    assert out.getvalue() == "\\x1b]0;owned\\x07\n"


def test_a_spreadsheet_computes_nothing_and_markdown_links_nowhere() -> None:
    assert [spreadsheet_cell(value) for value in ("=1+1", "+1", "-x", "@x", "plain", -1.5)] == [
        *("'=1+1", "'+1", "'-x", "'@x"),
        *("plain", -1.5),
    ]
    cell = markdown_cell("<script>x</script> [a](javascript:b) a|b\nc")
    assert "<" not in cell and "\n" not in cell and "\\[a\\]" in cell and "a\\|b" in cell
    assert "'=cmd" in render.csv_text({"t": [{"task": "t", "submission": "=cmd"}]})
