"""Words of the report: sentences, vocabulary, numbers."""
