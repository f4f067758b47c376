"""The budgets of the design, each measured beside its peer in one run."""
