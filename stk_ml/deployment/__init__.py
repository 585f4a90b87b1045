"""The endpoint: named deployments, traffic, rollout and the processes behind them."""
