"""Files of rows, read and written in batches, for scoring without a server."""
