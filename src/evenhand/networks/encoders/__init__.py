"""Encoders of series, one file each."""
