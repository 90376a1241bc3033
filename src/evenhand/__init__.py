"""Evenhand finds the patients whom a medical model fails, and fixes the model."""
