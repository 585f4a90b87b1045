"""A model on disk: sealed, checked before it is loaded, free of pickle, the same for training, registry and serving."""
