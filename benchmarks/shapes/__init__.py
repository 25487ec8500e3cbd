"""Models whose shapes change from run to run, beside other engines: `python -m benchmarks.shapes`."""
