"""Checks of a task's data for leaks, which would let an entry score well without learning what the task asks.

A check takes a task and its data and returns a note. It raises `Leak` with numbers, an example and advice, or `Skip` if it does not
apply. It goes by the shapes and dtypes of the arrays, so that a stranger's kind is checked too.

Statistics: all tests of one check together blame a clean task at most at the rate `FALSE_ALARM_RATE` (Bonferroni), so ten checks
blame it at most once in a hundred. A rule that predicts targets is made from some rows and tested on others: its hits are compared
with chance by the exact binomial test. The distance between two splits is compared with the distance inside train by Fisher's exact
test, so that data which are alike by nature pass.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b

import numpy as np

from harness.contract import Array, Data, Split, Task
from harness.errors import Leak, Skip

FALSE_ALARM_RATE = 1e-3  # of one check on a clean task, all its tests together
MAX_COPY_SHARE = 0.01  # share of a split's rows that may be (nearly) another's where train is as full of copies
MIN_KAPPA = 0.02  # Cohen's kappa that counts against a fact or an order: less may be significant, and is no help
TELLTALE_KAPPA = 0.9  # kappa of one input value for one class: pixels reach .72 on digits, .68 on Fashion-MNIST
NEAR_DISTANCES = (
    0.05,
    0.1,
    0.2,
)  # distances of unit vectors: correlations .999, .995, .98; MAX_COPY_SHARE within the second
MAX_QUERIES, MAX_CANDIDATES = 5_000, 100_000  # random rows that search neighbours, and that can be neighbours
SPLIT_PAIRS = (
    ("valid", "train"),
    ("test", "train"),
    ("test", "valid"),
    ("valid", "unlabelled"),
    ("test", "unlabelled"),
)
MODULI = (*range(2, 33), 50, 60, 64, 100, 128, 256, 1000, 3600, 86400, 604800)
CLOCK = re.compile(r"(^|[^a-z])(time|date|year|month|day|hour|timestamp|created|modified|mtime)s?($|[^a-z])")


LeakCheck = Callable[[Task, Data], str]


def checks(data: Data) -> dict[tuple[str, str], LeakCheck]:
    """Return the leak checks of a task's data, by name and claim: one for each fact in ``Split.metadata``, and five others."""
    facts = sorted({fact for _, split in named_splits(data) for fact in split.metadata})
    about = partial(partial, predicts_targets, level=FALSE_ALARM_RATE / max(len(facts), 1))
    return {
        ("exact duplicates", "no test input stands in train or valid as it is"): exact_duplicates,
        ("near duplicates", "no test input is nearly one of train or valid"): near_duplicates,
        ("row order", "the order of rows tells no targets"): partial(
            predicts_targets, fact=None, level=FALSE_ALARM_RATE
        ),
        **{(f"about {fact}", f"what is known as {fact} tells no targets"): about(fact=fact) for fact in facts},
        ("telltale input", "no single input value gives targets away"): telltale_input,
        ("time overlap", "no split looks into another's future"): time_overlap,
    }


def report_leaks(leaks: Sequence[str], advice: str, note: str = "") -> str:
    if leaks:
        raise Leak(f"{'; '.join(leaks)}: {advice}")
    return note


def named_splits(data: Data) -> list[tuple[str, Split]]:
    return [("train", data.train), ("valid", data.valid), ("test", data.test)]


def compared_rows(task: Task, data: Data) -> dict[str, Array]:
    """Return, by split, the rows that two splits should not share: inputs, or in image generation the target images.

    Inputs without targets are a split called "unlabelled". Raises Skip if inputs are single values.
    """
    drawn = task.kind.name == "image-generation"
    found = {name: split.labels if drawn else split.x for name, split in named_splits(data)}
    if data.train.unlabelled is not None and not drawn:
        found["unlabelled"] = data.train.unlabelled
    if found["train"][:1].size < 2:
        raise Skip("inputs are single values")
    return found


def is_text(data: Data) -> bool:
    """Tell whether inputs are chunks of tokens whose targets are the next tokens."""
    x, y = data.train.x, data.train.labels
    return x.ndim == 2 and x.shape == y.shape and x.dtype.kind in "iu" and bool((x[:, 1:] == y[:, :-1]).all())


def is_series(data: Data) -> bool:
    """Tell whether inputs are windows of numbers whose targets are the next numbers of the same variables."""
    x, y = data.train.x, data.train.labels
    return x.ndim == y.ndim == 3 and x.dtype.kind == "f" and x.shape[2] == y.shape[2]


def by_split(data: Data, rows: Array) -> dict[str, Array]:
    """Return the parts of an array by split. Its rows are those of train, valid and test, one split after the other."""
    ends = [len(data.train), len(data.train) + len(data.valid)]
    return dict(zip(("train", "valid", "test"), np.split(rows, ends), strict=True))


def class_codes(data: Data) -> dict[str, Array] | None:
    """Return the targets of each split as class codes 0, 1, ..., int64 (n,); None if targets are no classes or are next tokens.

    Targets count as classes if they are whole numbers with at most a tenth as many values as there are rows.
    """
    y = np.concatenate([split.labels for _, split in named_splits(data)])
    if y.dtype.kind not in "iub" or y.ndim > 2 or is_text(data):
        return None
    values, codes = np.unique(y, axis=0, return_inverse=True)
    return by_split(data, codes.ravel()) if len(values) <= max(len(y) // 10, 2) else None


def targets(data: Data) -> list[dict[str, Array]]:
    """Return up to ten columns of targets, each as class codes (n,) by split. Numbers are cut at their quartiles if they are many.

    Raises Skip if targets are pictures or follow from one row to the next.
    """
    if is_text(data) or is_series(data) or data.train.labels.ndim > 3:
        raise Skip("targets are pictures" if data.train.labels.ndim > 3 else "targets follow from one row to the next")
    codes = class_codes(data)
    if codes is not None:
        return [codes]
    table = np.concatenate([split.labels.reshape(len(split), -1) for _, split in named_splits(data)])
    columns = table.T[(table != table[0]).any(axis=0)]
    found = []
    for column in columns[np.unique(np.linspace(0, len(columns) - 1, 10).astype(int))]:
        few = np.unique(column)
        edges = few[1:] if len(few) <= 20 else np.quantile(column, (0.25, 0.5, 0.75))
        found.append(by_split(data, np.searchsorted(edges, column, side="right")))
    return found


def row_hashes(rows: Array) -> Array:
    """Return a hash of the content of each row, uint64 (n,)."""
    digests = [blake2b(np.ascontiguousarray(row).tobytes(), digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def exceeds_natural_rate(hits: int, n: int, usual: int, m: int, tests: int) -> bool:
    """Tell whether ``hits`` of ``n`` rows are too many beside ``usual`` of ``m`` (Fisher's exact test, one of ``tests`` tests)."""
    from scipy.stats import hypergeom

    return bool(hypergeom.sf(hits - 1, n + m, hits + usual, n) < FALSE_ALARM_RATE / tests)


def exact_duplicates(task: Task, data: Data) -> str:
    digests = {name: row_hashes(rows).tolist() for name, rows in compared_rows(task, data).items()}
    train, counts = digests["train"], Counter(digests["train"])
    leaks, notes = list[str](), list[str]()
    for later, earlier in SPLIT_PAIRS:
        first = {key: row for row, key in reversed(list(enumerate(digests.get(earlier, []))))}
        twins = [row for row, key in enumerate(digests[later]) if key in first]
        if twins:
            usual = sum(counts[key] > 1 if earlier == "train" else key in first for key in train)
            n, example = len(digests[later]), first[digests[later][twins[0]]]
            many = len(twins) > MAX_COPY_SHARE * n or exceeds_natural_rate(
                len(twins), n, usual, len(train), len(SPLIT_PAIRS)
            )
            (leaks if many else notes).append(
                f"{len(twins)} of {n} {later} inputs stand in {earlier} ({usual} of {len(train)} train inputs by nature), "
                f"such as {later} row {twins[0]} and {earlier} row {example}"
            )
    return report_leaks(leaks, "drop the copies in load()", "; ".join(notes))


def near_duplicates(task: Task, data: Data) -> str:
    """Look for rows of two splits that are nearly the same, apart from brightness, contrast and a shift by one pixel or step.

    Returns a note. Raises Leak if such rows are too many, Skip for series, tokens and inputs of fewer than 16 numbers.
    """
    found = compared_rows(task, data)
    train = found["train"]
    if is_series(data) or train.ndim not in (2, 3, 4) or (train.ndim == 2 and train.dtype.kind in "iu"):
        raise Skip("inputs are overlapping windows" if is_series(data) else "one changed token is another input")
    if train[0].size < 16:
        raise Skip("inputs of fewer than 16 numbers lie near each other by nature")
    rng, axes = np.random.default_rng(0), tuple(range(train.ndim - 1))
    kept = {name: np.sort(rng.permutation(len(rows))[:MAX_CANDIDATES]) for name, rows in found.items()}
    digests = {name: row_hashes(rows[kept[name]]) for name, rows in found.items()}
    sample = train[kept["train"][:MAX_QUERIES]].astype(np.float32)
    scale = (sample.mean(axis=axes), sample.std(axis=axes) + 1e-9) if train.ndim < 4 else (0, 255)
    small = {name: downscale(rows, kept[name], *scale) for name, rows in found.items()}
    others, leaks, notes = rng.permutation(len(small["train"]))[:MAX_QUERIES], list[str](), list[str]()
    for later, earlier in [pair for pair in SPLIT_PAIRS if pair[1] in found]:
        asked = rng.permutation(np.flatnonzero(~np.isin(digests[later], digests[earlier])))[:MAX_QUERIES]
        apart, mates = nearest_neighbours(small[later][asked], small[earlier])
        usual, own = nearest_neighbours(small["train"][others], small[earlier], others if earlier == "train" else None)
        usual = usual[digests["train"][others] != digests[earlier][own]]
        for limit in NEAR_DISTANCES:
            hits, base, n = int((apart < limit).sum()), int((usual < limit).sum()), len(asked)
            many = limit <= NEAR_DISTANCES[1] and hits > max(MAX_COPY_SHARE * n, 1)
            if hits:
                row = int(apart.argmin())
                says = (
                    f"{hits} of {n} {later} inputs lie within {limit} of {earlier} ({base} of {len(usual)} train inputs by "
                    f"nature), such as {later} row {kept[later][asked[row]]} and {earlier} row "
                    f"{kept[earlier][mates[row]]} ({apart[row]:.3f} apart)"
                )
                if many or exceeds_natural_rate(hits, n, base, len(usual), len(SPLIT_PAIRS) * len(NEAR_DISTANCES)):
                    leaks.append(says)
                    break
                notes += [says] * (limit == NEAR_DISTANCES[1])
    return report_leaks(leaks, "split by what the copies were made from, before any augmentation", "; ".join(notes))


def downscale(x: Array, rows: Array, mean: Array | float, spread: Array | float) -> Array:
    """Return the ``rows`` of ``x``, less ``mean`` and over ``spread``, averaged to at most 32 a side: float16 (n, height, width).

    Images become grey. A series has steps and variables as its axes, a table one step and its columns.
    """
    parts = []
    for start in range(0, len(rows), 2048):
        part = (x[rows[start : start + 2048]].astype(np.float32) - mean) / spread
        part = part.mean(axis=3) if part.ndim == 4 else part.reshape(len(part), -1, part.shape[-1])
        parts.append(pool_mean(pool_mean(part, 1, 32), 2, 32).astype(np.float16))
    return np.concatenate(parts)


def pool_mean(x: Array, axis: int, cells: int) -> Array:
    """Return x (n, height, width) with neighbours along an axis (1 or 2) averaged, so that at most ``cells`` remain."""
    edges = np.linspace(0, x.shape[axis], min(cells, x.shape[axis]) + 1).round().astype(int)
    width = np.diff(edges).astype(np.float32)
    sums = np.asarray(np.add.reduceat(x, edges[:-1], axis=axis))
    return np.asarray(sums / (width[:, None] if axis == 1 else width))


def unit_vectors(small: Array, shift: tuple[int, ...], cells: int) -> Array:
    """Return images (n, height, width) as unit vectors (n, d) of mean 0, moved by ``shift`` and averaged to ``cells`` a side.

    ``shift`` is in pixels per axis. Axes shorter than 6 pixels are not moved; others lose a border of one pixel.
    """
    x = small.astype(np.float32)
    for axis, step in enumerate(shift, start=1):
        if x.shape[axis] >= 6:
            x = x.take(np.arange(1 + step, x.shape[axis] - 1 + step), axis=axis)
        x = pool_mean(x, axis, cells)
    flat = x.reshape(len(x), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6))


def nearest_neighbours(rows: Array, among: Array, own: Array | None = None) -> tuple[Array, Array]:
    """Return the distance (n,) from each of ``rows`` to its most similar row of ``among``, and that row's index (n,).

    Both are images (n, height, width), compared as unit vectors under shifts by one pixel. ``own`` holds, for each of ``rows``, the
    index of a row of ``among`` to leave out: the row itself.
    """
    shifts = list(itertools.product(*((-1, 0, 1) if size >= 6 else (0,) for size in rows.shape[1:])))
    best, nearest = np.full(len(rows), -2, np.float32), np.zeros(len(rows), np.int64)
    known = np.ascontiguousarray(unit_vectors(among, (0, 0), 8).T)
    for shift in shifts:
        asked = unit_vectors(rows, shift, 8)
        for start in range(0, len(rows), 256):  # never all pairs at once
            here = slice(start, start + 256)
            alike = asked[here] @ known
            every = np.arange(len(alike))
            if own is not None:
                alike[every, own[here]] = -2
            first = alike.argmax(axis=1)
            nearest[here] = np.where(alike[every, first] > best[here], first, nearest[here])
            best[here] = np.maximum(alike[every, first], best[here])
    mates = unit_vectors(among[nearest], (0, 0), 32)
    apart = [np.linalg.norm(unit_vectors(rows, shift, 32) - mates, axis=1) for shift in shifts]
    return np.min(apart, axis=0), nearest


def predicts_targets(task: Task, data: Data, *, fact: str | None, level: float) -> str:
    """Raise Leak if a fact predicts targets of held-out rows better than chance; else return a note.

    For ``fact`` None the row number is tested. ``level`` is the significance level of all tests. Raises Skip if no targets can be
    tested.
    """
    from scipy.stats import binom

    facts = {name: split.metadata.get(fact) if fact else np.arange(len(split)) for name, split in named_splits(data)}
    rows = {name: np.asarray(values) for name, values in facts.items() if values is not None and len(values) >= 20}
    tests = [(name, codes[name]) for codes in targets(data) for name in rows]
    best, leaks = 0.0, []
    for name, y in tests:
        right, n, chance = held_out_hits(rows[name], y)
        edge = (right / n - chance) / max(1 - chance, 1e-9)
        best = max(best, edge)
        if edge >= MIN_KAPPA and binom.sf(right - 1, n, chance) < level / len(tests):
            pair = np.argsort(rows[name], kind="stable")[[0, -1]]
            goals = dict(named_splits(data))[name].labels
            examples = " and ".join(f"row {row} ({rows[name][row]}) has {goals[row].tolist()}" for row in pair)
            what = f"{fact or 'the row number'} predicts {right} of {n} {name} targets, {chance * n:.0f} by chance"
            leaks.append(f"{what}: {examples}")
    advice = "give no class values of its own" if fact else "shuffle the rows in load()"
    note = f"at best a kappa of {best:.3f} in {len(tests)} tests" if tests else "fewer than 20 rows"
    return report_leaks(leaks, f"{advice} (p < {level:.2g} over {len(tests)} tests)", note)


def held_out_hits(fact: Array, y: Array) -> tuple[int, int, float]:
    """Fit a tree that predicts class codes ``y`` (n,) from a fact (n,) on half of the rows, and try it on rows of the other half.

    Return the number of hits, the number of rows tried, and the share of hits that chance gives.
    """
    from sklearn.tree import DecisionTreeClassifier

    columns, order = fact_columns(fact, len(np.unique(y)))
    learn, held = np.array_split(np.random.default_rng(0).permutation(len(y)), 2)
    place = np.argsort(order)
    seen = np.sort(place[learn])
    labels = np.concatenate([[-1], y[order[seen]], [-1]])  # of learned rows in the fact's order, one beyond each end
    next_to = [labels[np.searchsorted(seen, place)], labels[np.searchsorted(seen, place, side="right") + 1]]
    table, learn, held = np.stack([*columns, *next_to], axis=1).astype(np.float32), learn[:10_000], held[:10_000]
    answer = DecisionTreeClassifier(max_leaf_nodes=128, random_state=0).fit(table[learn], y[learn]).predict(table[held])
    said, true = (np.bincount(some, minlength=int(y.max()) + 1) / len(held) for some in (answer, y[held]))
    return int((answer == y[held]).sum()), len(held), float(said @ true)


def fact_columns(fact: Array, classes: int) -> tuple[list[Array], Array]:
    """Return columns (n,) for a tree to learn a fact (n,) from, and the indices of the rows in the order of the fact.

    The columns are a number with its remainders, or a text's words, length and last number.
    """
    columns = []
    if fact.dtype.kind not in "iubfmM":
        whole = fact.astype(str)
        words = [re.findall(r"\d+|[^\W\d_]+", text) or [""] for text in whole]
        places = (0, 1, 2, 3, 4, 5, -1, -2)
        texts: list[list[str]] = [[some[at] if -len(some) <= at < len(some) else "" for some in words] for at in places]
        lengths = np.array([len(text) for text in whole])
        columns = [np.unique(some, return_inverse=True)[1] for some in (*map(np.array, texts), lengths, whole)]
        fact = np.array([int(next((word for word in reversed(some) if word.isdecimal()), "0")[-15:]) for some in words])
    number = np.nan_to_num((fact.astype(np.int64) if fact.dtype.kind in "mM" else fact).astype(np.float64))
    moduli = sorted({*MODULI, max(classes, 2)}) if (number == np.round(number)).all() else []
    ties = np.random.default_rng(0).random(len(number))  # not the order of rows, which is a check of its own
    order = np.lexsort((ties, columns[-1], number) if columns else (ties, number))
    span = number - number.min()  # the tree works in float32: large numbers keep their differences
    return [span, *(number % m for m in moduli), *columns], order


def telltale_input(task: Task, data: Data) -> str:
    codes = class_codes(data)
    if codes is None or data.train.x.ndim < 2:
        raise Skip("targets are no classes of inputs")
    rng, most = np.random.default_rng(0), max(4_000, 30_000_000 // data.train.x[0].size)
    rows = {name: rng.permutation(len(split))[:most] for name, split in named_splits(data)}
    x, z = (split.x[rows[name]].reshape(len(rows[name]), -1) for name, split in named_splits(data) if name != "valid")
    y, truth = codes["train"][rows["train"]], codes["test"][rows["test"]]
    scores = np.array([best_kappa(x[:, column], z[:, column], y, truth) for column in range(x.shape[1])])
    column, rest = int(scores[:, 0].argmax()), float(np.quantile(scores[:, 0], 0.9))
    best, goal = scores[column, 0], data.train.labels[(codes["train"] == scores[column, 1]).argmax()].tolist()
    where = list(map(int, np.unravel_index(column, data.train.x.shape[1:])))
    says = f"the value at {where} tells target {goal} on test with a kappa of {best:.2f} (9 of 10 values: {rest:.2f} at most)"
    # Pixels that tell something by nature have neighbours that do: one that stands alone is a mark.
    alone = data.train.x.ndim == 4 and len(scores) >= 64 and best > max(0.25, 5 * rest)
    return report_leaks(
        [says] if best >= TELLTALE_KAPPA or alone else [], "look for a mark there; paint over it or drop it", says
    )


def best_kappa(x: Array, z: Array, y: Array, truth: Array) -> tuple[float, int]:
    """Return the best Cohen's kappa of a rule "this value means that class", and the code of that class.

    The rules are made from values ``x`` (n,) and class codes ``y`` (n,), and tested on held-out values ``z`` and codes ``truth``.
    """
    edges = np.unique(x)  # exact values where there are few, else 64 bins, equally full
    if len(edges) > 256:
        edges = np.unique(np.quantile(x, np.linspace(0, 1, 65)[1:-1]))
    x, z = np.searchsorted(edges, x), np.searchsorted(edges, z)
    classes, bins = int(max(y.max(), truth.max())) + 1, len(edges) + 1
    table, held = (np.bincount(value * classes + label, minlength=bins * classes).reshape(bins, classes) for value, label in
                   ((x, y), (z, truth)))  # fmt: skip
    means = 2 * table > table.sum(axis=1, keepdims=True)
    said, share = (means * held.sum(axis=1, keepdims=True)).sum(axis=0) / len(truth), held.sum(axis=0) / len(truth)
    agree = 1 - said - share + 2 * (means * held).sum(axis=0) / len(truth)
    chance = said * share + (1 - said) * (1 - share)
    kappa = np.where(chance < 1, (agree - chance) / np.maximum(1 - chance, 1e-9), 0.0)
    return float(kappa.max()), int(kappa.argmax())


def time_overlap(task: Task, data: Data) -> str:
    """Look for windows that hold another split's targets, and for times in ``Split.metadata`` that run back from train to test.

    Returns a note. Raises Leak if there are any, Skip if there are no windows or times.
    """
    from scipy.stats import mannwhitneyu

    leaks, notes, windows = list[str](), list[str](), is_text(data) or is_series(data)
    for later, earlier in SPLIT_PAIRS[:3]:
        one, two = getattr(data, later), getattr(data, earlier)
        if windows:
            leaks += repeated_targets(later, one, earlier, two, is_text(data))
        for fact in one.metadata:
            if fact in two.metadata and CLOCK.search(fact.lower().replace("_", " ")):
                times = [np.asarray(split.metadata[fact]) for split in (one, two)]
                a, b = (np.asarray(some, "datetime64[s]") if some.dtype.kind in "OUS" else some for some in times)
                after = float((b >= np.sort(a)[len(a) // 100]).mean())
                mixed = mannwhitneyu(a.astype(float), b.astype(float)).pvalue > FALSE_ALARM_RATE
                says = f"{after:.0%} of {earlier} rows have a {fact} after {later} begins"
                wrong = after > MAX_COPY_SHARE and (windows or not mixed)
                (leaks if wrong else notes).append(says + (", mixed as in a split at random" if mixed else ""))
    if not (windows or leaks or notes):
        raise Skip("there are no windows, and no fact is called a time")
    return report_leaks(leaks, "cut the splits in order of time, targets and all", "; ".join(notes))


def repeated_targets(later: str, one: Split, earlier: str, two: Split, text: bool) -> list[str]:
    """Return a sentence on targets of split ``one`` that stand, with the steps before them, in windows of split ``two``.

    It is the only one in the list; the list is empty if there are no such targets. ``later`` and ``earlier`` are the names of the
    splits; ``text`` is true for tokens. Raises Skip if windows are too short to tell.
    """
    a, b = (np.concatenate([step_hashes(split.x), step_hashes(split.labels)[:, -1:] if text else step_hashes(split.labels)], axis=1)
            for split in (one, two))  # fmt: skip
    _, counts = np.unique(b[:: max(1, b.size // 100_000)], return_counts=True)
    bits = -float(counts / counts.sum() @ np.log2(counts / counts.sum()))
    k = 32 if text else max(2, int(np.ceil(48 / max(bits, 1e-3))))  # so long that chance repeats none
    if k > a.shape[1]:
        raise Skip(f"windows of {a.shape[1]} steps hold too little to tell them apart")
    runs, known = run_hashes(a, k), np.unique(run_hashes(b, k))
    first = 0 if text else max(one.x.shape[1] - k + 1, 0)  # only runs that end in a target
    runs = runs[:, first:]
    seen = (known[np.searchsorted(known, runs).clip(0, len(known) - 1)] == runs) & (runs != 0)
    rows = np.flatnonzero(seen.mean(axis=1) > 0.2 if text else seen.any(axis=1))
    if not len(rows):
        return []
    other = int(np.flatnonzero((run_hashes(b, k) == runs[rows[0]][seen[rows[0]]][0]).any(axis=1))[0])
    return [f"targets of {len(rows)} of {len(one)} {later} rows stand in {earlier}, as of row {rows[0]} in row {other}"]


def step_hashes(values: Array) -> Array:
    """Return a hash of the values of each step, uint64 (n, steps); ``values`` is (n, steps) or (n, steps, variables)."""
    whole = values.astype(np.int64) if values.dtype.kind in "iu" else (values.astype(np.float32) + 0.0).view(np.uint32)
    out, rng = np.zeros(whole.shape[:2], np.uint64), np.random.default_rng(0)
    for variable in np.moveaxis(whole.reshape(*whole.shape[:2], -1), 2, 0):
        out += variable.astype(np.uint64) * (rng.integers(2**63, dtype=np.uint64) | np.uint64(1))
    return out


def run_hashes(steps: Array, k: int) -> Array:
    """Return a hash of every ``k`` neighbouring steps, uint64 (n, steps - k + 1); 0 where all ``k`` steps are the same."""
    size = steps.shape[1] - k + 1
    out, moved = np.zeros((len(steps), size), np.uint64), np.zeros((len(steps), size), bool)
    for start in range(k):
        part = steps[:, start : start + size]
        out = out * np.uint64(0xD1342543DE82EF95) + part
        moved |= part != steps[:, :size]
    return np.where(moved, out, np.uint64(0))
