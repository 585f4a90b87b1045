"""Is what is scored still what was learned from: drift, quality and performance, with a declared error rate."""
