"""Prints the numbers that the tests of np-record compare with. Needs numpy, scipy and statsmodels:

    pip install numpy scipy statsmodels && python3 crates/np-record/tests/reference/statistics.py
"""

import itertools

import numpy as np
import scipy
from scipy import stats
from statsmodels.stats.multitest import multipletests

print("numpy", np.__version__, "scipy", scipy.__version__)

published = np.array([0.8740, 0.8779, 0.8808])
print("mean", repr(published.mean()), "std (ddof 1)", repr(published.std(ddof=1)))

eight = np.array([1.3, -0.4, 2.2, 0.7, 0.1, 3.5, -1.1, 0.9])
every = np.array(list(itertools.product(range(8), repeat=8)), dtype=np.int8)
means = eight[every].mean(axis=1)
print("all 8^8 resamples", np.quantile(means, [0.025, 0.975]), "standard deviation", means.std())
drawn = stats.bootstrap((eight,), np.mean, n_resamples=1_000_000, batch=10_000, method="percentile",
                        rng=np.random.default_rng(0))
print("scipy.stats.bootstrap", drawn.confidence_interval)

for d in (
    [0.0029, 0.0041, 0.0037],
    [0.0013, -0.0004, -0.0003],
    list(eight),
    [0.5, 0.25, -0.125, 0.75, 0.3, 0.61, 0.2, 0.44, -0.05, 0.33, 0.12, 0.29],
):
    d = np.array(d)
    result = stats.permutation_test((d,), np.sum, permutation_type="samples", n_resamples=np.inf)
    print("sign flips", len(d), repr(float(result.pvalue)))

thirty = [-i if i % 3 == 0 else i for i in range(1, 31)]
counts = {0: 1}
for i in thirty:
    after = {}
    for total, n in counts.items():
        for sign in (i, -i):
            after[total + sign] = after.get(total + sign, 0) + n
    counts = after
extreme = sum(n for total, n in counts.items() if abs(total) >= abs(sum(thirty)))
print("all 2^30 flips", extreme / 2**30)

p = np.array([0.01, 0.04, 0.03, 0.005])
order = np.argsort(p)
holm = np.empty_like(p)
holm[order] = np.minimum(1, np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))))
print("holm", holm)
print("statsmodels holm", multipletests(p, method="holm")[1], multipletests([0.6, 0.7], method="holm")[1])

for n in (8, 7, 5, 3):
    print("trim_mean(x, 0.25)", n, repr(float(stats.trim_mean(eight[:n], 0.25))), "median", repr(float(np.median(eight[:n]))))

x, y = [0.8740, 0.8779, 0.8808, 0.8711], [0.8711, 0.8738, 0.8771, 0.8740, 0.8700]
print("mannwhitneyu / (n m)", float(stats.mannwhitneyu(x, y).statistic) / (len(x) * len(y)))

a, b = np.array([0.97, 0.975, 0.99]), np.array([0.86, 0.88, 0.87])
threes = np.array(list(itertools.product(range(3), repeat=3)))
both = np.array([np.concatenate([a[i], b[j]]) for i in threes for j in threes])
print("strata", np.quantile(stats.trim_mean(both, 0.25, axis=1), [0.025, 0.975]))

inf = np.inf
costs = np.array([[120, 100, 350], [40, inf, 40], [9, 3, 6], [inf, inf, inf], [10, 11, inf]])
with np.errstate(invalid="ignore"):
    ratios = costs / costs.min(axis=1, keepdims=True)
ratios[np.isnan(ratios)] = inf
for tau in (1, 1.2, 2, 1e9):
    print("profile", tau, (ratios <= tau * (1 + 1e-15)).mean(axis=0))
grid = np.linspace(1, 4, 1_000_001)[:-1]
print("profile score", [float((ratios[:, s, None] <= grid).mean()) for s in range(3)])
