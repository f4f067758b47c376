"""The settings of a measured site: the reference project's, without its pages."""

from project.settings import *  # noqa: F403  # what ships is what is measured
from project.settings import INSTALLED_APPS

INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "project.gallery"]
# Nothing of ours listens in a benchmark's process; warnings still show.
SILENCED_SYSTEM_CHECKS = ["urls.E001"]
