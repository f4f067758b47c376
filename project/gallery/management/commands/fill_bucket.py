"""``manage.py fill_bucket``: send the bucket's files again, to an S3 that has forgotten them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from project.gallery import shapes


class Command(BaseCommand):
    help = "Have the bucket get its files once more: the S3 of make run S3=1 keeps them in memory, until it ends."

    def handle(self, *args: Any, **options: Any) -> None:
        if "bucket" not in settings.STORAGES:
            raise CommandError("There is no bucket: write S3=1 make run, or S3_BUCKET=… into the environment.")
        shapes.write_again("bucket")
