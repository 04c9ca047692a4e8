"""Slow, obvious float64 implementations to test against; they import nothing of the project."""
