"""The gallery's Django application."""

from django.apps import AppConfig


class GalleryConfig(AppConfig):
    name = "project.gallery"
    verbose_name = "Gallery"

    def ready(self) -> None:
        # Whatever loads the project has its Celery application as the current one, and so its broker. Not in
        # project/__init__.py: the media host must start without any settings.
        from project import celery  # noqa: F401
