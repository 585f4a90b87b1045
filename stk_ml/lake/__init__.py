"""The lake: Delta tables in three zones, in a folder or in Azure storage; only the URI differs."""
