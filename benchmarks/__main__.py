"""Run every benchmark side by side with its peers: ``make bench``."""

from benchmarks import bench_dmdt, bench_features, bench_periods

for bench in (bench_dmdt, bench_features, bench_periods):
    print(f"\n{bench.__doc__.strip().splitlines()[0]}\n")
    bench.main()
