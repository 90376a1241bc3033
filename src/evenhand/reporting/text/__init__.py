"""The words of the report: sentences, names of metrics, formats of numbers."""
