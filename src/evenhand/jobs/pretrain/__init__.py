"""Pre-training without labels: two views of each sample, and a method that brings them together."""
