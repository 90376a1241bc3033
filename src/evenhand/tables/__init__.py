"""Tables: predictions, column mapping, attributes and their levels, reading, checks."""
