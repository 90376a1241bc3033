"""Stored samples: decoded once, read many times."""
