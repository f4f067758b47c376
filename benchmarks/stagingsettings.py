"""Settings of a measured staging site: the reference project's, with what copies are compared in.

``BENCH_DEFAULT``: ``plain`` for Django's own storage; else the default storage replicates. ``BENCH_SOURCE``:
``any name`` for a live site that has a file of one byte under each name. ``BENCH_STREAMS``: of a worker.
"""

import os

from project.settings import *  # noqa: F403
from project.settings import REPLICATOR, STORAGES, VAR

if os.environ.get("BENCH_DEFAULT") == "plain":
    STORAGES["default"] = {"BACKEND": "django.core.files.storage.FileSystemStorage"}
if os.environ.get("BENCH_SOURCE") == "any name":
    options = {"location": VAR / "any-name"}
    STORAGES["live"] = {"BACKEND": "benchmarks.inside.anyname.AnyName", "OPTIONS": options}
REPLICATOR["STAGING"] = {"SOURCE": "live", "CONCURRENCY": int(os.environ.get("BENCH_STREAMS", "8"))}
# Of their own: nobody reads the others, so that nothing is delivered meanwhile.
CELERY_TASK_ROUTES = {"replicator.copy_media": {"queue": "copies"}}
