"""The results of the bench of real structures put together: means and their intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tenet.metrics.intervals import bootstrap_interval

#: Files of the folder of a condition.
RESULTS, PSF = "results.csv", "psf.csv"


def summary(results: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Means with 95 % intervals, resampling whole stacks.

    Parameters
    ----------
    results : DataFrame
        As of `tenet.paper.real.bench.Outcome`.
    by : sequence of str
        Columns that stay apart.

    Returns
    -------
    DataFrame
        `by`, then quantity (iou, tips_reached, false_share), value, low, high, n. n counts stacks,
        of tips_reached the tips. The structures of a seed are the same under every beam, and are
        resampled as one.
    """
    rows = []
    for key, group in results.groupby(list(by), sort=False):
        about = dict(zip(by, key, strict=True))
        clusters = (group["kind"] + group["seed"].astype(str)).to_numpy()
        tips, hits = group["tips"].to_numpy(int), group["reached"].to_numpy(int)
        each = np.concatenate([np.arange(n) < k for n, k in zip(tips, hits, strict=True)])
        values = {
            "iou": (group["iou"].to_numpy(), clusters),
            "tips_reached": (each.astype(float), np.repeat(clusters, tips)),
            "false_share": (group["false_share"].to_numpy(), clusters),
        }
        for quantity, (observed, cluster) in values.items():
            if len(observed):
                rng = np.random.default_rng(0)
                value, low, high = bootstrap_interval(observed, cluster, rng=rng)
                found = {"value": value, "low": low, "high": high, "n": len(observed)}
                rows.append({**about, "quantity": quantity, **found})
    return pd.DataFrame(rows)
