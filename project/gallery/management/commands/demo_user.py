"""``manage.py demo_user``: a first user for a try on one's own machine."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

NAME = PASSWORD = "demo"  # noqa: S105  # known to everyone, and therefore for DEBUG only


class Command(BaseCommand):
    help = f"Add the administrator {NAME} with the password {PASSWORD}, unless there is any user yet. DEBUG only."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("DEBUG is off: this is no place for a known password. Use manage.py createsuperuser.")
        users = get_user_model().objects
        if not users.exists():
            users.create_superuser(NAME, "", PASSWORD)
