"""Dates as people write them to ISO 8601: "Thursday, the 21st of November 2019" to "2019-11-21". Generated from a fixed seed.

A common exercise for teaching attention. Sixteen formats, some of them rare; days of 1800 to 2199, nine in ten of them of 1950 to
2049, the only years that are ever cut to two digits. Every text has one reading: with slashes the month comes first, with dots the
day. Each day is used once, so that neither a test text nor its answer occurs in train, in any format. A date counts only when all
of it is right.
"""

from datetime import date, timedelta

import numpy as np

from harness import Data, Split, Task, Transduction

LENGTH = len("2019-11-21")
PAD = "·"
ALPHABET = PAD + "-0123456789"
SIZES = {"train": 3000, "valid": 500, "test": 1000}
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
UNITS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth",
         "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth")

# Relative frequency of each format. Fields: d day, o ordinal, w ordinal in words, m month, y year, yy its last two digits.
FORMATS = {
    "{d} {month} {y}": 12, "{month} {d}, {y}": 12, "{d} {mon} {y}": 10, "{mon} {d}, {y}": 8, "the {o} of {month} {y}": 8,
    "{month} {o}, {y}": 8, "{weekday}, {month} {d}, {y}": 8, "{weekday}, the {o} of {month} {y}": 8, "{m:02}/{d:02}/{y}": 6,
    "{d}.{m}.{y}": 6, "{d:02}-{mon}-{y}": 5, "{day} {d} {mon} {y}": 4, "{m:02}/{d:02}/{yy:02}": 2, "{month} {o}, '{yy:02}": 1,
    "the {w} of {month} {y}": 1, "{y}, {month} {d}": 1,
}  # fmt: skip
WIDTH = len("Wednesday, the 21st of September 2019")
SOURCE = PAD + "".join(sorted({*" '-,./0123456789", *"".join((*MONTHS, *WEEKDAYS, *UNITS, "the of thirtieth"))}))


def in_words(d: int) -> str:
    if d <= len(UNITS):
        return UNITS[d - 1]
    tens, unit = divmod(d, 10)
    return ("twentieth", "thirtieth")[tens - 2] if not unit else f"{('twenty', 'thirty')[tens - 2]}-{UNITS[unit - 1]}"


def write(day: date, form: str) -> str:
    d, month, weekday = day.day, MONTHS[day.month - 1], WEEKDAYS[day.weekday()]
    suffix = "th" if 11 <= d <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(d % 10, "th")
    return form.format(d=d, o=f"{d}{suffix}", w=in_words(d), m=day.month, month=month, mon=month[:3], y=day.year,
                       yy=day.year % 100, weekday=weekday, day=weekday[:3])  # fmt: skip


def tokens(texts: list[str], alphabet: str, width: int) -> np.ndarray:
    """Encode texts as int64 (n, width); shorter ones are padded at the end."""
    return np.array([[alphabet.index(letter) for letter in text.ljust(width, PAD)] for text in texts], dtype=np.int64)


def load() -> Data:
    rng = np.random.default_rng(1979)
    n = sum(SIZES.values())
    first, end = date(1800, 1, 1), date(2200, 1, 1)
    days = [first + timedelta(int(i)) for i in rng.permutation((end - first).days)]
    near = [day for day in days if 1950 <= day.year < 2050][: round(0.9 * n)]
    far = [day for day in days if not 1950 <= day.year < 2050][: n - len(near)]
    weights = np.array(list(FORMATS.values()), dtype=float)
    whole = weights * ["yy" not in form for form in FORMATS]  # two digits are read as a year of 1950 to 2049
    forms = [*rng.choice(list(FORMATS), len(near), p=weights / weights.sum()),
             *rng.choice(list(FORMATS), len(far), p=whole / whole.sum())]  # fmt: skip
    order = rng.permutation(n)
    days = [(near + far)[i] for i in order]
    x = tokens([write(day, forms[i]) for day, i in zip(days, order)], SOURCE, WIDTH)
    y = tokens([day.isoformat() for day in days], ALPHABET, LENGTH)
    ends = np.cumsum(list(SIZES.values()))[:-1]
    return Data(*(Split(*part) for part in zip(np.split(x, ends), np.split(y, ends))))


TASK = Task(name="dates", kind=Transduction(vocabulary=len(ALPHABET), length=LENGTH, source_vocabulary=len(SOURCE),
                                            alphabet=ALPHABET), load=load, metric="exact_match", time_limit=120,
            description="dates as people write them to ISO 8601")  # fmt: skip
