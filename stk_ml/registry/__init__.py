"""Registered models: MLflow on SQLite on a laptop, Azure ML in the cloud."""
