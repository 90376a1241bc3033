"""Stage 1: what a data set must have before fairness can be told from it, measured."""
