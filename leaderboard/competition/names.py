"""Names that look alike: two teams should not be taken for one another."""

from __future__ import annotations

import re
import unicodedata

LOOKALIKES = str.maketrans(
    "аеіјкмопрсухѕԁһԛԝӏαβεικνορτυχγωη01",
    "aeijkmonpcyxsdhqwlabeikvoptuxywnol",
)
"""Cyrillic and Greek small letters, and digits, that look like a Latin small letter."""
INVISIBLE = "\u115f\u1160\u3164\uffa0\u2800"
"""Characters without ink that Unicode counts as letters or symbols."""


def skeleton(name: str) -> str:
    """Return what is left of a name when letters that look alike are one: two names with the same skeleton may be confused."""
    folded = unicodedata.normalize("NFKD", name).casefold()
    inked = "".join(
        letter for letter in folded if not unicodedata.combining(letter) and letter not in INVISIBLE and letter != " "
    )
    return inked.translate(LOOKALIKES)


def is_single_script(name: str) -> bool:
    """Tell if all letters of a name are of one script, and all are seen. Japanese mixes three scripts and counts as one."""
    letters = [letter for letter in unicodedata.normalize("NFKC", name) if letter.isalpha()]
    if any(letter in INVISIBLE or not letter.isprintable() for letter in name):
        return False
    scripts = {re.split("[ -]", unicodedata.name(letter, "?"))[0] for letter in letters}
    return len(scripts - {"CJK", "HIRAGANA", "KATAKANA"}) + bool(scripts & {"CJK", "HIRAGANA", "KATAKANA"}) <= 1
