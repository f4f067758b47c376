"""Settings of a site under test: the reference project's, with what the test gave it in ``SITE``."""

import json
import os

from project.settings import *  # noqa: F403

_given = json.loads(os.environ["SITE"])
REPLICATOR = _given["replicator"]
for _storage in STORAGES.values():  # noqa: F405
    # They name the project's own.
    _storage.get("OPTIONS", {})["targets"] = list(REPLICATOR["TARGETS"])
# Nothing is collected here.
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}  # noqa: F405
STORAGES["default"]["OPTIONS"] = _given["storage"]  # noqa: F405
