"""Making a target hold what the ledger says."""

from replicator.delivery.help import helping
from replicator.delivery.probing import probe
from replicator.delivery.run import Summary, deliver

__all__ = ["Summary", "deliver", "helping", "probe"]
