"""Quantiles of Student's t, and derivatives of the logarithm of the gamma function.

scipy has them all, but its import takes longer than ``bakeoff leaderboard`` may run. The tests compare these with scipy's.
"""

from __future__ import annotations

import math
from functools import lru_cache

NORMAL_FREEDOM = 1e7
"""Degrees of freedom from which on t is treated as normal."""
TINY = 1e-300


def tail(t: float, freedom: float) -> float:
    """Return the probability that |T| exceeds ``t`` > 0, for Student's t with ``freedom`` degrees of freedom."""
    if freedom >= NORMAL_FREEDOM:
        return math.erfc(t / math.sqrt(2))
    x = freedom / (freedom + t * t)
    return incomplete_beta(freedom / 2, 0.5, x, t * t / (freedom + t * t))


def incomplete_beta(a: float, b: float, x: float, complement: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b).

    ``complement`` is 1 - x; it is passed in because the subtraction loses digits.
    """
    if x <= 0 or complement <= 0:
        return 0.0 if x <= 0 else 1.0
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(complement)
    if x < (a + 1) / (a + b + 2):
        return math.exp(front) * continued_fraction(a, b, x) / a
    return 1 - math.exp(front) * continued_fraction(b, a, complement) / b


def continued_fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of the incomplete beta function at x, by Lentz's method (Press et al. 2007, section 6.4)."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 100_000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + step * d) or TINY)
            c = (1 + step / c) or TINY
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def density(t: float, freedom: float) -> float:
    """Return the density of |T| at ``t``, both sides of 0 together, for Student's t with ``freedom`` degrees of freedom."""
    if freedom >= NORMAL_FREEDOM:
        return math.sqrt(2 / math.pi) * math.exp(-t * t / 2)
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)
    return 2 * math.exp(scale - (freedom + 1) / 2 * math.log1p(t * t / freedom))


@lru_cache(maxsize=10_000)
def quantile(freedom: float, level: float) -> float:
    """Return the two-sided quantile q of Student's t: |t| exceeds q with probability ``level``; infinite if q is beyond 1e150."""
    log_level = math.log(level)
    low, high = 0.0, 1.0
    while (probability := tail(high, freedom)) > level:
        low, high = high, 2 * high
        if high > 1e150:
            return math.inf
    t = high
    for _ in range(200):
        probability = tail(t, freedom)
        low, high = (t, high) if probability > level else (low, t)
        slope = density(t, freedom)
        step = (math.log(probability) - log_level) * probability / slope if probability > 0 and slope > 0 else math.inf
        # Newton's step on the logarithm, or the middle if the step leaves the bracket.
        next_t = t + step if low < t + step < high else (low + high) / 2
        if abs(next_t - t) <= 1e-13 * next_t:
            return next_t
        t = next_t
    return t


@lru_cache(maxsize=10_000)
def digamma(x: float) -> float:
    """Return the digamma function at x > 0: the derivative of the logarithm of the gamma function."""
    value = 0.0
    while x < 10:
        value, x = value - 1 / x, x + 1
    y = 1 / (x * x)
    return value + math.log(x) - 0.5 / x - y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132))))


@lru_cache(maxsize=10_000)
def trigamma(x: float) -> float:
    """Return the derivative of `digamma` at x > 0."""
    value = 0.0
    while x < 10:
        value, x = value + 1 / (x * x), x + 1
    y = 1 / (x * x)
    return value + 1 / x + y / 2 + y / x * (1 / 6 - y * (1 / 30 - y * (1 / 42 - y * (1 / 30 - y * 5 / 66))))


def tetragamma(x: float) -> float:
    """Return the derivative of `trigamma` at x > 0."""
    value = 0.0
    while x < 10:
        value, x = value - 2 / x**3, x + 1
    y = 1 / (x * x)
    return value - y - y / x - y * y * (1 / 2 - y * (1 / 6 - y * (1 / 6 - y * (3 / 10 - y * 5 / 6))))
