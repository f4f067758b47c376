"""The reference project: a small gallery that uses everything, and runs on one machine with Python alone."""
