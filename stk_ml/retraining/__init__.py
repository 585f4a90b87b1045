"""When to train again: a pure policy, a ledger of runs, and the doors that alerts come in by."""
