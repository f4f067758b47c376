"""What runs in a process of its own, with Django set up: see ``benchmarks.site``."""
