"""Kind of tasks that generate images of given classes, scored by their distance to held-out images, with a measure of copying."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from harness.contract import Array, Data, Kind, Measure, Metric, OutputSpec, Split
from harness.kinds import checks, features, pictures

NEIGHBOURS = 3
"""Number of the neighbour that sets a ball's radius in the manifolds of precision and recall (Kynkäänniemi et al. 2019)."""
MAX_ROWS = 2_000
"""Most images that the kernel distance and the manifolds use. The cost of both grows with the square of this number."""
NEAR_SHARE = 0.05
"""Share of real held-out images that count as near to the training set. An honest model has this memorisation too."""
COPYING_SHARE = 0.5
"""Share of memorised images from which an entry is flagged as a copy: ten times that of an honest model."""


@dataclass(frozen=True)
class ImageGeneration(Kind):
    """Kind of image generation. x is int64 (n,), the wanted classes in 0..classes-1; y and the answer are images.

    Images are uint8 (n, height, width, channels). Scores compare the answer with the split's real images in the features of a
    frozen network, named by ``features`` (see `harness.kinds.features`). So scores can be compared on one task alone, and none is
    called "FID": that name is left to the Inception network's.

    - frechet_distance: squared distance between the Gaussians of both feature sets (Heusel et al. 2017). Biased upwards if images
      are few, more so in resamples; `references` gives its floor.
    - kernel_distance: unbiased squared MMD under the kernel (a·b/d + 1)^3 (Bińkowski et al. 2018), over 2,000 rows at most.
    - precision, recall: share of generated images inside the manifold of the real ones, and the reverse (Kynkäänniemi et al.
      2019). A manifold is balls around 2,000 images at most, each of which reaches to the third neighbour.
    - memorisation: share of generated images nearer to their nearest training image than the nearest 5 % of real held-out images
      are to theirs (the idea of Meehan et al. 2020), in pixels averaged to at most 8 x 8 a channel: a copy stays a copy under
      noise that a network would stumble over. About .05 for honest samples, 1 for copies.
    """

    height: int
    width: int
    channels: int
    classes: int
    features: str

    name: ClassVar[str] = "image-generation"
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("frechet_distance", False, "Fréchet distance to held-out images, in the task's own features"),
        Metric("kernel_distance", False, "unbiased squared MMD, cubic kernel"),
        Metric("precision", True, "share of generated images inside the real manifold"),
        Metric("recall", True, "share of real images inside the generated manifold"),
        Metric("memorisation", False, "share of images nearer to training images than 5 % of real ones are"),
    )

    def check(self, data: Data) -> None:
        features.check(self.features, self._shape)
        for part, split in checks.named_splits(data):
            checks.expect(split.x, f"{part}.x", shape=(None,), dtypes="i")
            checks.expect_range(split.x, f"{part}.x", 0, self.classes - 1)
            checks.expect(split.labels, f"{part}.y", shape=(None, *self._shape), dtypes="u")

    def output_specs(self, x: Array) -> Sequence[OutputSpec]:
        return (OutputSpec("images", (len(x), *self._shape), "uint8"),)

    def verify(self, answer: Array, x: Array) -> None:
        """Accept every answer: each uint8 is a valid shade."""

    def measure(self, answer: Array, split: Split, train: Split) -> Mapping[str, Measure]:
        truth = _reference(_ByIdentity(split.labels), _ByIdentity(train.labels), self.features)
        fake = features.extract(answer, self.features)
        apart = pairwise_discrepancy(fake[truth.kept], truth.real[truth.kept])

        def kernel_distance(index: Array) -> float:
            weight = np.bincount(index, minlength=len(fake))[truth.kept].astype(np.float32)
            pairs = weight.sum() ** 2 - weight @ weight
            return float(weight @ apart @ weight / pairs) if pairs else float("nan")

        return {
            "frechet_distance": Measure(lambda index: frechet_distance(fake[index], truth.real[index])),
            "kernel_distance": Measure(kernel_distance),
            "precision": Measure.mean_of(inside(fake, truth.real[truth.kept], truth.radii)),
            "recall": Measure.mean_of(inside(truth.real, fake[truth.kept], neighbour_distance(fake[truth.kept]))),
            "memorisation": Measure.mean_of(nearest(features.pixels(answer), truth.train) <= truth.near),
        }

    def flags(self, metrics: Mapping[str, float]) -> Sequence[str]:
        copied = metrics.get("memorisation", 0.0)
        if copied < COPYING_SHARE:
            return ()
        return (
            f"{copied:.0%} of its images are nearer to training images than {NEAR_SHARE:.0%} of real ones: it "
            "repeats what it was shown",
        )

    def references(self, data: Data) -> Mapping[str, float]:
        """Return two Fréchet distances to the test images: of as many training images (the floor), and of uniform noise."""
        rng = np.random.default_rng(0)
        real = features.extract(data.test.labels, self.features)
        rows = rng.permutation(len(data.train))[: len(real)]
        noise = rng.integers(0, 256, size=data.test.labels.shape, dtype=np.uint8)
        return {
            "frechet_distance_floor": frechet_distance(features.extract(data.train.labels[rows], self.features), real),
            "frechet_distance_noise": frechet_distance(features.extract(noise, self.features), real),
        }

    def snapshots(self) -> OutputSpec:
        """Return the spec of the pictures that a submission may keep from its training: at most 12 sheets of 100 images."""
        return OutputSpec("snapshots", (12, 100, *self._shape), "uint8")

    def draw(self, answer: Array, split: Split) -> bytes:
        shown = np.argsort(split.x[:100], kind="stable")
        return pictures.grid(answer[shown])

    def examples(self, train: Split) -> bytes:
        return pictures.by_class(train.labels, train.x)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels


class _ByIdentity:
    """Holder of an array that equals another holder only if both hold the same object, so that it can be the key of a cache."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.array is other.array

    def __hash__(self) -> int:
        return id(self.array)


@dataclass(frozen=True)
class _Reference:
    """Features of one split's real images, and pixels of the training images, computed once for all answers.

    ``real`` (n, d) are the features. ``kept`` are the indices of the rows of ``real`` that manifolds use, ``radii`` their distances
    to the third neighbour. ``train`` are the averaged pixels of the training images, ``near`` is the distance below which an image
    counts as near to them.
    """

    real: Array
    kept: Array
    radii: Array
    train: Array
    near: float


@lru_cache(maxsize=4)
def _reference(real: _ByIdentity, train: _ByIdentity, name: str) -> _Reference:
    found = features.extract(real.array, name)
    kept = np.random.default_rng(0).permutation(len(found))[:MAX_ROWS]
    seen = features.pixels(train.array)
    near = float(np.quantile(nearest(features.pixels(real.array), seen), NEAR_SHARE))
    return _Reference(found, kept, neighbour_distance(found[kept]), seen, near)


def frechet_distance(a: Array, b: Array) -> float:
    """Return the squared Fréchet distance between the Gaussians fitted to features ``a`` (n, d) and ``b`` (m, d)."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The trace of (AB)^½ equals that of the symmetric (A^½ B A^½)^½, which eigh takes without complex numbers.
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    return float(np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + np.trace(first) + np.trace(second) - 2 * shared)


def pairwise_discrepancy(a: Array, b: Array) -> Array:
    """Return a float32 (n, n) matrix whose mean off the diagonal is the unbiased squared MMD of a and b, both (n, d).

    Entry i, j is k(a_i, a_j) + k(b_i, b_j) - k(a_i, b_j) - k(a_j, b_i), the one-sample U-statistic of Gretton et al. (2012,
    lemma 6), with k(u, v) = (u·v/d + 1)^3. A resample is a weighted mean of the same matrix.
    """

    def kernel(u: Array, v: Array) -> Array:
        return np.asarray((u.astype(np.float64) @ v.T.astype(np.float64) / u.shape[1] + 1) ** 3)

    across = kernel(a, b)
    out = kernel(a, a) + kernel(b, b) - across - across.T
    np.fill_diagonal(out, 0)
    return out.astype(np.float32)


def inside(a: Array, b: Array, radii: Array) -> Array:
    """Return float64 (n,): 1 where a row of ``a`` (n, d) lies in the ball around any row of ``b`` (m, d), else 0.

    ``radii`` (m,) are the radii of the balls.
    """
    return np.concatenate([(apart <= radii).any(axis=1) for apart in _distances(a, b)]).astype(np.float64)


def neighbour_distance(a: Array, k: int = NEIGHBOURS) -> Array:
    """Return the distance (n,) from each row of ``a`` (n, d) to its k-th nearest other row, or to the last if there are fewer."""
    place = min(k, len(a) - 1)
    return np.concatenate([np.partition(apart, place, axis=1)[:, place] for apart in _distances(a, a)])


def nearest(a: Array, b: Array) -> Array:
    """Return the Euclidean distance (n,) from each row of ``a`` (n, d) to the nearest row of ``b`` (m, d)."""
    return np.concatenate([apart.min(axis=1) for apart in _distances(a, b)])


def _distances(a: Array, b: Array, rows: int = 256) -> Iterator[Array]:
    """Yield Euclidean distances (rows, m) from each block of ``rows`` rows of ``a`` (n, d) to all rows of ``b`` (m, d)."""
    square = np.square(b).sum(axis=1)
    for start in range(0, len(a), rows):
        part = a[start : start + rows]
        apart = part @ (-2 * b.T)
        apart += square
        apart += np.square(part).sum(axis=1, keepdims=True)
        yield np.sqrt(np.maximum(apart, 0, out=apart), out=apart)
