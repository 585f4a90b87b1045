"""Sources into the raw zone of the lake: as they came, typed, addressable, and loaded once."""
