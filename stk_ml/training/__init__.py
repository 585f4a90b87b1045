"""From a training set on disk to a sealed, evaluated model artifact."""
