"""Tasks of the benchmarks with thousands of rows that need no download."""

import numpy as np

from harness import Data, Forecasting, Split, Task, windows
from harness.plugins import registry

DIGITS = registry.find_task("digits").task
SHIFTS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
DELAY, LOOKBACK, HORIZON = 17, 36, 12
BOUNDS = (4_000, 5_000, 6_000)


def shifted() -> Data:
    """Return the digits with nine copies of each training image, shifted by up to one pixel: 8,082 rows."""
    data = DIGITS.load()
    copies = [np.roll(data.train.x, shift, axis=(1, 2)) for shift in SHIFTS]
    train = Split(np.concatenate(copies), np.tile(data.train.labels, len(SHIFTS)))
    return Data(train, data.valid, data.test)


def mackey_glass() -> Data:
    """Return windows of the series of Mackey and Glass (1977), by Euler steps of a tenth, each tenth step kept, with noise."""
    steps = 10
    x = np.full((BOUNDS[-1] + 200) * steps, 1.2)
    for t in range(DELAY * steps, len(x) - 1):
        late = x[t - DELAY * steps]
        x[t + 1] = x[t] + (0.2 * late / (1 + late**10) - 0.1 * x[t]) / steps
    series = x[::steps][-BOUNDS[-1] :, None]
    series = (series - series[: BOUNDS[0]].mean()) / series[: BOUNDS[0]].std()
    series += np.random.default_rng(17).normal(0, 0.05, series.shape)
    return windows(series.astype(np.float32), lookback=LOOKBACK, horizon=HORIZON, bounds=BOUNDS)


SHIFTED = Task(name="shifted-digits", kind=DIGITS.kind, load=shifted, metric=DIGITS.metric, time_limit=300)
MACKEY_GLASS = Task(
    name="mackey-glass",
    kind=Forecasting(horizon=HORIZON, season=12),
    load=mackey_glass,
    metric="mse",
    time_limit=300,
)
