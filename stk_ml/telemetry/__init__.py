"""What the scoring app tells about itself: histograms, predictions and request metrics."""
