"""Pictures of predictions and of data as PNG bytes. Matplotlib is imported when the first picture is drawn."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.contract import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGHT, WRONG, TRUTH = "#1a7f4b", "#c23b22", "#555555"


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    return figure, figure.subplots()


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def confusion(answer: Array, y: Array, classes: int) -> bytes:
    """Return a PNG of the confusion matrix of predicted and true labels (n,): a row per true class, shaded by shares of the row."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (y, answer), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _figure(4.2, 4)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if classes <= 12:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                axes.text(
                    column,
                    row,
                    f"{count:.0f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if shares[row, column] > 0.5 else "black",
                )
        axes.set_xticks(range(classes))
        axes.set_yticks(range(classes))
    axes.set(xlabel="predicted", ylabel="true")
    return _png(figure)


def forecasts(answer: Array | None, x: Array, y: Array) -> bytes:
    """Return a PNG of the first, the middle and the last window, for the last variable.

    Each shows the end of the look-back ``x``, the truth ``y`` and the forecast ``answer``, unless that is None.
    """
    from matplotlib.figure import Figure

    horizon, shown = y.shape[1], np.linspace(0, len(x) - 1, 3).astype(int)
    past = min(x.shape[1], 2 * horizon)
    figure = Figure(figsize=(9, 2.4), dpi=100, layout="constrained")
    for axes, row in zip(figure.subplots(1, 3), shown, strict=True):
        axes.plot(range(-past, 0), x[row, -past:, -1], color=TRUTH, lw=1)
        axes.plot(range(horizon), y[row, :, -1], color=TRUTH, lw=1, ls="--", label="truth")
        if answer is not None:
            axes.plot(range(horizon), answer[row, :, -1], color=WRONG, lw=1.4, label="forecast")
        axes.axvline(0, color="#cccccc", lw=0.8, zorder=0)
        axes.set_title(f"{'training' if answer is None else 'test'} window {row}", fontsize=8)
        axes.tick_params(labelsize=7)
    axes.legend(fontsize=7)
    return _png(figure)


def surprise(answer: Array | None, y: Array, alphabet: str, chunks: int = 6, width: int = 96) -> bytes:
    """Return a PNG of the first characters of the first ``chunks`` of true tokens ``y`` (n, t), each shaded by its loss in nats.

    ``answer`` holds log-probabilities (n, t, vocabulary); None leaves the characters unshaded.
    """
    figure, axes = _figure(9, 0.3 * chunks + 0.3)
    cost = np.zeros(y[:chunks, :width].shape)
    if answer is not None:
        cost = -np.take_along_axis(answer[:chunks], y[:chunks, :, None], axis=2)[:, :width, 0]
    axes.imshow(np.minimum(cost, 6), cmap="Oranges", aspect="auto", vmin=0, vmax=6)
    for (row, column), token in np.ndenumerate(y[:chunks, :width]):
        axes.text(
            column,
            row,
            alphabet[token].replace("\n", "↵").replace("$", r"\$"),
            ha="center",
            va="center",
            fontsize=7,
            family="DejaVu Sans Mono",
        )
    axes.set_axis_off()
    return _png(figure)


def transcripts(answer: Array, y: Array, alphabet: str, pad: int, shown: int = 12) -> bytes:
    """Return a PNG of the first test sequences as text: truth above, answer below, green if every token is right, else red."""
    figure, axes = _figure(9, 1.2)
    for place, (guess, truth) in enumerate(zip(answer[:shown], y[:shown], strict=True)):
        left = (place + 0.5) / shown
        colour = RIGHT if (guess == truth).all() else WRONG
        axes.text(left, 0.7, _read(truth, alphabet, pad), ha="center", fontsize=9, color=TRUTH)
        axes.text(left, 0.25, _read(guess, alphabet, pad) or "–", ha="center", fontsize=9, color=colour)
    axes.set_axis_off()
    return _png(figure)


def _read(tokens: Array, alphabet: str, pad: int) -> str:
    return "".join(alphabet[token] for token in tokens if token != pad).replace("$", r"\$")


def captioned(x: Array, y: Array, alphabet: str, pad: int, shown: int = 6) -> bytes:
    """Return a PNG of the first inputs ``x``, images or token numbers, each under its target ``y`` as text."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.6), dpi=100, layout="constrained")
    for axes, source, target in zip(figure.subplots(1, shown), x[:shown], y[:shown]):
        if source.ndim > 1:
            axes.imshow(source[..., 0] if source.shape[-1] == 1 else source, cmap="gray")
        else:
            axes.text(0.5, 0.5, " ".join(map(str, source)), ha="center", va="center", fontsize=8, wrap=True)
        axes.set_title(_read(target, alphabet, pad), fontsize=9)
        axes.set_axis_off()
    return _png(figure)


def series_by_class(x: Array, y: Array, classes: int = 6, each: int = 5) -> bytes:
    """Return a PNG of the first variable of up to ``each`` series of each of the first classes; ``x`` is (n, steps, variables)."""
    from matplotlib.figure import Figure

    found = np.unique(y)[:classes]
    figure = Figure(figsize=(9, 1.9), dpi=100, layout="constrained")
    for axes, label in zip(figure.subplots(1, len(found), sharey=True, squeeze=False)[0], found, strict=True):
        axes.plot(x[y == label][:each, :, 0].T, lw=0.8)
        axes.set_title(f"class {label}", fontsize=8)
        axes.tick_params(labelsize=7)
    return _png(figure)


def by_class(images: Array, y: Array, classes: int = 20, each: int = 6) -> bytes:
    """Return a PNG of up to ``each`` images of each of the first classes, a column per class."""
    columns = [images[y == label][:each] for label in np.unique(y)[:classes]]
    rows = min(map(len, columns))
    return grid(np.stack([column[:rows] for column in columns], axis=1).reshape(-1, *images.shape[1:]), len(columns))


def grid(images: Array, columns: int = 10) -> bytes:
    """Return a PNG of images uint8 (n, height, width, channels) on one sheet, enlarged if they are small.

    Images with 3 or 4 channels are in colour; of others the first channel is drawn.
    """
    from PIL import Image

    n, height, width, channels = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + 1), columns * (width + 1), channels), 255, dtype=np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * (height + 1), place % columns * (width + 1)
        sheet[top : top + height, left : left + width] = image
    picture = Image.fromarray(sheet if channels in (3, 4) else sheet[..., 0])
    scale = max(1, 320 // picture.width)
    out = io.BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(out, format="png")
    return out.getvalue()
