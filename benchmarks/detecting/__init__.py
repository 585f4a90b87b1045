"""Parts of benchmarks/detection.py: simulated worlds, the tools that look at them, the chart."""
