"""Runs Azure ML pipeline files on this machine, step by step, and caches the steps by content."""
