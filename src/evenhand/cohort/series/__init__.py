"""Reading time series."""
