"""Request bodies become rows of numbers: JSON, CSV, Arrow and Open Inference tensors against the model's columns."""
