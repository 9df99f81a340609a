"""Yearly sunspot numbers 1700-2008 (SIDC, as statsmodels ships them): one solar cycle of 11 years from the last four.

Look-back 44 years, horizon 11, stride-1 windows. Train targets end in 1886, valid holds 1887-1947, test 1948-2008: 133, 51
and 51 windows, and about five and a half cycles in each of the last two. Standardised with the training years' mean and
deviation.
"""

from harness import Data, Forecasting, Task, windows
from harness.datasets import sunspots

LOOKBACK, HORIZON = 44, 11
BOUNDS = (187, 248, 309)


def load() -> Data:
    series = sunspots()
    train = series[:BOUNDS[0]]
    return windows((series - train.mean(axis=0)) / train.std(axis=0), lookback=LOOKBACK, horizon=HORIZON, bounds=BOUNDS)


TASK = Task(name="sunspots", kind=Forecasting(horizon=HORIZON, season=11), load=load, metric="mse", time_limit=120,
            description="44 years of sunspots to the next 11")
