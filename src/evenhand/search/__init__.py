"""The outer search: an Optuna study that goes on where it was killed, on any engine."""
