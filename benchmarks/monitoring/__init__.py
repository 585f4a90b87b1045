"""The parts of benchmarks/monitoring.py."""
