"""What benchmarks/serving.py is made of: the model, the peers, their environments, the load, the chart, the soak."""
