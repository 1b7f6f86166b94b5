"""Non-periodic features: skynb.features.extract beside light-curve alone, for the same columns.

    python -m benchmarks.bench_features [REPEATS]

All Catalina curves if SKYNB_MIRROR is set, else simulated ones. light-curve is given the table's
own Arrow buffers, its fastest way in, and the same fluxes for its percentiles. The headline leaves
out skynb's own two columns on both sides; what they add is timed apart. All take turns; the best
of the repeats counts.
"""

import os
import sys
import time
from unittest import mock

import light_curve
import numpy as np

from skynb import datasets, features, lightcurves


def main(repeats=7):
    """Return the times as a dict, and print them."""
    name = "crts" if os.environ.get("SKYNB_MIRROR") else "simulated"
    lcs = datasets.load(name)
    of_magnitudes = light_curve.Extractor(*features.EXTRACTED)
    of_fluxes = light_curve.Extractor(*features.FROM_FLUX)
    median = of_magnitudes.names.index("median")
    options = {"fill_value": np.nan, "sorted": True, "check": False}

    def alone():
        fields = {"t": "mjd", "m": "mag", "sigma": "magerr"}
        rows = lcs["lightcurve"].array.list_array
        first = of_magnitudes.many(rows, arrow_fields=fields, **options)
        fluxes = features._fluxes(lightcurves.arrays(lcs), first[:, median])
        second = of_fluxes.many(fluxes, arrow_fields={"t": "t", "m": "m"}, **options)
        return np.hstack([first, second])

    def everything():
        return features.extract(lcs, periods=False)

    def same():
        with mock.patch.object(features, "_measure"):
            return everything()

    calls = {"skynb": same, "light-curve": alone, "skynb, all": everything}
    made, best = {}, dict.fromkeys(calls, np.inf)
    for turn in range(repeats + 1):
        for which, call in calls.items():
            start = time.perf_counter()
            made[which] = call()
            if turn:
                best[which] = min(best[which], time.perf_counter() - start)
    X, expected = made["skynb, all"], made["light-curve"]
    result = {
        "n_objects": len(lcs),
        "n_features": X.shape[1],
        "n_same": expected.shape[1],
        "skynb_s": best["skynb"],
        "light_curve_s": best["light-curve"],
        "ratio": best["skynb"] / best["light-curve"],
        "own_s": best["skynb, all"] - best["skynb"],
        "equal": np.array_equal(
            X.iloc[:, : expected.shape[1]], np.where(np.isfinite(expected), expected, np.nan), True
        ),
    }
    print(f"non-periodic features, {name}: {len(lcs)} objects, best of {repeats}")
    print(
        f"the same {result['n_same']} columns: skynb {result['skynb_s']:.3f} s, light-curve "
        f"{result['light_curve_s']:.3f} s, ratio {result['ratio']:.2f}, equal {result['equal']}"
    )
    n_own = result["n_features"] - result["n_same"]
    print(f"skynb's own {n_own} columns besides: {result['own_s']:+.3f} s")
    return result


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
