"""Making a target hold what the ledger says."""

from replicator.delivery.help import helping
from replicator.delivery.probing import probe
from replicator.delivery.run import attend, deliver, show_life
from replicator.delivery.summary import Summary

__all__ = ["Summary", "attend", "deliver", "helping", "probe", "show_life"]
