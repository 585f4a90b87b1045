"""Who calls: bearer tokens."""
