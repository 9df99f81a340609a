"""ETTh1: hourly load and oil temperature of one power transformer, seven variables (Zhou et al. 2021, Informer).

The literature's split: 12, 4 and 4 months of 30 days; standardised with the training months' mean and deviation; stride-1
windows; all seven variables count alike in the error. Look-back 336 hours (two weeks) at every horizon: published figures
differ in their look-back, so state it when you compare. The tasks named `etth1-ot-` are univariate: the oil temperature alone, of
the same split, standardised in the same way.
"""

from functools import partial

from harness import Data, Forecasting, Task, windows
from harness.datasets import fetch

URL = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv"
SHA256 = "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"
LOOKBACK, DAY = 336, 24
MONTH = 30 * DAY
BOUNDS = (12 * MONTH, 16 * MONTH, 20 * MONTH)


def load(horizon: int, variable: str | None = None) -> Data:
    import pandas as pd

    table = pd.read_csv(fetch("etth1", URL, SHA256), index_col="date")
    series = (table if variable is None else table[[variable]]).to_numpy()
    train = series[:BOUNDS[0]]
    return windows((series - train.mean(axis=0)) / train.std(axis=0), lookback=LOOKBACK, horizon=horizon, bounds=BOUNDS)


def task(name: str, horizon: int, variable: str | None = None) -> Task:
    what = "seven variables" if variable is None else "oil temperature"
    return Task(name=name, kind=Forecasting(horizon=horizon, season=DAY), load=partial(load, horizon, variable), metric="mse",
                description=f"two weeks of a transformer's {what} to the next {horizon} hours")


ETTH1_96 = task("etth1-96", 96)
ETTH1_192 = task("etth1-192", 192)
ETTH1_336 = task("etth1-336", 336)
ETTH1_720 = task("etth1-720", 720)
ETTH1_OT_96 = task("etth1-ot-96", 96, "OT")
ETTH1_OT_192 = task("etth1-ot-192", 192, "OT")
ETTH1_OT_336 = task("etth1-ot-336", 336, "OT")
ETTH1_OT_720 = task("etth1-ot-720", 720, "OT")
