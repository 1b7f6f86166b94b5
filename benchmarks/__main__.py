"""Run every benchmark side by side with its peers: ``make bench``, or some of them by name."""

import importlib
import sys

NAMES = (
    *("dmdt", "features", "periods", "predict", "maps", "bayes", "transfer", "methods"),
    *("sweep", "survey", "explorers", "curves", "explain", "trust"),
    *("alerts", "realbogus", "streaks", "differencing"),
)

for name in sys.argv[1:] or NAMES:
    bench = importlib.import_module(f"benchmarks.bench_{name}")
    print(f"\n{bench.__doc__.strip().splitlines()[0]}\n")
    bench.main()
