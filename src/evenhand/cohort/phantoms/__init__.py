"""Made cohorts with planted, known faults."""
