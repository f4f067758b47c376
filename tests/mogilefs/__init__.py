"""A MogileFS to test against: trackers and storage nodes that answer as recorded from the real ones.

``python -m tests.mogilefs`` runs it; ``tests.mogilefs.cluster.MogileFS`` runs it for a test, and lets it fail. Only
the standard library is needed, except by ``cluster``.
"""
