"""Performance profiles (Dolan and Moré, arXiv:cs/0102001): how often an entry is about as fast as the fastest."""

import math

import numpy as np
import pandas as pd

#: the largest factor that a profile is drawn to
LARGEST = 8.0


def ratios(costs: pd.DataFrame) -> pd.DataFrame:
    """Divide each cost by the least of its workload.

    >>> costs = pd.DataFrame({"mezo": [400.0, 900.0], "loren": [800.0, np.inf]}, index=["sst2", "mr"])
    >>> ratios(costs).loc["sst2"].tolist(), ratios(costs).loc["mr"].tolist()
    ([1.0, 2.0], [1.0, inf])

    Args:
        costs: a row a workload, a column an entry; infinity where the target was not reached.

    Returns:
        The same shape. A workload whose target nobody reached is infinity for all; an entry that was not run there
        is, too.
    """
    filled = costs.fillna(math.inf)
    least = filled.min(axis=1)
    return filled.div(least.where(least < math.inf, 1.0), axis=0)


def share_within(costs: pd.DataFrame, factor: float) -> "pd.Series[float]":
    """The share of workloads on which each entry is within a factor of the fastest.

    >>> costs = pd.DataFrame({"mezo": [400.0, 900.0], "loren": [800.0, np.inf]}, index=["sst2", "mr"])
    >>> share_within(costs, 1.0).to_dict(), share_within(costs, 2.0).to_dict()
    ({'mezo': 1.0, 'loren': 0.0}, {'mezo': 1.0, 'loren': 0.5})
    """
    return ratios(costs).le(factor * (1 + 1e-9)).mean()


def areas(costs: pd.DataFrame) -> "pd.Series[float]":
    """The mean of each entry's profile over the logarithm of the factor, from 1 to ``LARGEST``: 1 is always fastest.

    >>> costs = pd.DataFrame({"mezo": [400.0, 900.0], "loren": [800.0, np.inf]}, index=["sst2", "mr"])
    >>> areas(costs).round(3).to_dict()
    {'mezo': 1.0, 'loren': 0.333}
    """
    room = 1 - np.log(ratios(costs).clip(upper=LARGEST)) / math.log(LARGEST)
    return room.mean().sort_values(ascending=False, kind="stable")
