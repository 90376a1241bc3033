"""Fine-tuning: one strategy, one fit, and everything about it in a run directory."""
