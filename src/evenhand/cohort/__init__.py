"""Cohorts: readers, labels, splits by patient, stored samples, phantoms."""
