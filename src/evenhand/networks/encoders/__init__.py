"""Encoders of series, one file each, and what they read."""
