"""The verbs of ``manage.py replicator``, each a module of its own."""

from replicator.management.verbs.adopt import Adopt
from replicator.management.verbs.audit import Audit
from replicator.management.verbs.base import Verb
from replicator.management.verbs.copy_media import CopyMedia
from replicator.management.verbs.import_retries import ImportRetries
from replicator.management.verbs.probe import Probe
from replicator.management.verbs.reclass import Reclass
from replicator.management.verbs.requeue import Requeue
from replicator.management.verbs.runs import Runs
from replicator.management.verbs.start_run import Backfill, Resync, Retire
from replicator.management.verbs.status import Status
from replicator.management.verbs.steer import Activate, Drain, Pause, ReadOnly, Resume
from replicator.management.verbs.wait import Wait

VERBS: list[Verb] = [
    *(Status(), Requeue(), Adopt(), ImportRetries(), Reclass(), Wait(), Probe(), CopyMedia()),
    *(Pause(), Resume(), ReadOnly(), Activate(), Drain(), Retire(), Backfill(), Resync(), Runs(), Audit()),
]
