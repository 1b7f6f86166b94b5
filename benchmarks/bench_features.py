"""Non-periodic features: skynb.features.extract beside light-curve's Extractor.many.

    python -m benchmarks.bench_features [REPEATS]

Both compute the same set, all Catalina curves if SKYNB_MIRROR is set, else simulated ones; skynb
adds Stetson's J, the pair slope trend and the table. light-curve is given the table's own Arrow
buffers, its fastest way in. The two take turns; the best of the repeats counts.
"""

import os
import sys
import time

import light_curve
import numpy as np

from skynb import datasets, features


def main(repeats=7):
    """Return the times as a dict, and print them."""
    name = "crts" if os.environ.get("SKYNB_MIRROR") else "simulated"
    lcs = datasets.load(name)
    extractor = light_curve.Extractor(*features.EXTRACTED)

    def peer():
        return extractor.many(
            lcs["lightcurve"].array.list_array,
            arrow_fields={"t": "mjd", "m": "mag", "sigma": "magerr"},
            fill_value=np.nan,
            sorted=True,
            check=False,
        )

    features.extract(lcs.iloc[:1], periods=False)
    ours, theirs = [], []
    for _ in range(repeats):
        X, seconds = _timed(lambda: features.extract(lcs, periods=False))
        ours.append(seconds)
        expected, seconds = _timed(peer)
        theirs.append(seconds)
    result = {
        "n_objects": len(lcs),
        "n_features": X.shape[1],
        "skynb_s": min(ours),
        "light_curve_s": min(theirs),
        "ratio": min(ours) / min(theirs),
        "equal": bool(np.allclose(X[extractor.names], expected, equal_nan=True)),
    }
    print(f"non-periodic features, {name}: {len(lcs)} objects, best of {repeats}")
    print(
        f"skynb {result['skynb_s']:.3f} s ({X.shape[1]} columns), light-curve "
        f"{result['light_curve_s']:.3f} s ({len(extractor.names)} columns), ratio "
        f"{result['ratio']:.2f}, equal {result['equal']}"
    )
    return result


def _timed(call):
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
