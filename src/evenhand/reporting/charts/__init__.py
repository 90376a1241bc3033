"""The geometry of the charts of pages."""
