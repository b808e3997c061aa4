"""The benchmark, `make bench`: what the package costs beside libraries and machine, as ratios of one run."""
