"""What a project can listen to.

``replica_synced`` and ``replica_failed``: sent with ``replica`` (a ``Replica`` whose ``file`` is loaded).
``file_synced``: sent with ``file`` when its last target has confirmed.
``target_down`` and ``target_up``: sent with ``target`` (the alias) and ``reason`` (text).
``copy_run_done``: sent with ``run`` (a ``CopyRun``) when a copy from the live site has nothing left to do; again, if
its failures are requeued.

They are sent in the worker, after the row says so; a receiver that raises is logged, never in the way.
"""

from django.dispatch import Signal

replica_synced = Signal()
replica_failed = Signal()
file_synced = Signal()
target_down = Signal()
target_up = Signal()
copy_run_done = Signal()
