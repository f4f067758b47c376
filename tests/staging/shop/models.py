"""One model for each way to have file fields, or a primary key."""

from __future__ import annotations

import uuid
from typing import Any

import django
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.core.files import File
from django.db import models
from django.utils import timezone


class Shelf(models.Model):
    code = models.CharField(max_length=20, unique=True)


class Tag(models.Model):
    name = models.CharField(max_length=20)
    rank = models.IntegerField(default=0)


class Public(models.Manager["Photo"]):
    def get_queryset(self) -> models.QuerySet[Photo]:
        return super().get_queryset().filter(public=True)


class PictureField(models.ImageField):
    """Nothing opens its files here: the library for that need not be installed."""

    def _check_image_library_installed(self) -> list[Any]:
        return []


class Photo(models.Model):
    """The usual, with what filters ask for; its managers hide rows."""

    image = PictureField(width_field="width", height_field="height", max_length=200)
    thumb = models.FileField(null=True, blank=True)
    width = models.IntegerField(null=True)
    height = models.IntegerField(null=True)
    title = models.CharField(max_length=50, blank=True)
    public = models.BooleanField(default=True)
    created = models.DateTimeField(default=timezone.now)
    day = models.DateField(null=True)
    price = models.DecimalField(max_digits=6, decimal_places=2, null=True)
    extra = models.JSONField(default=dict)
    shelf = models.ForeignKey(Shelf, on_delete=models.CASCADE, null=True, to_field="code", related_name="photos")
    tags = models.ManyToManyField(Tag, related_name="photos")

    objects = Public()

    class Meta:
        base_manager_name = "objects"
        ordering = ["-title"]


class PublicPhoto(Photo):
    class Meta:
        proxy = True


class Scanned(models.Model):
    scan = models.FileField()

    class Meta:
        abstract = True


class Letter(Scanned):
    # Without the constraint: an app without migrations has its tables before those that have some.
    about_type = models.ForeignKey(ContentType, on_delete=models.CASCADE, null=True, db_constraint=False)
    about_id = models.IntegerField(null=True)
    about = GenericForeignKey("about_type", "about_id")


class Invoice(Scanned):
    pass


class Medium(models.Model):
    file = models.FileField()


class Clip(Medium):
    """Two tables, a file field in each."""

    poster = models.FileField(blank=True)


class Song(Medium):
    """Its only file field is in the other table."""

    seconds = models.IntegerField(default=0)


class Owner(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    photo = models.FileField()


class Profile(models.Model):
    owner = models.OneToOneField(Owner, on_delete=models.CASCADE, primary_key=True)
    avatar = models.FileField()


class Sheet(models.Model):
    name = models.CharField(max_length=50, primary_key=True)
    file = models.FileField()


class Coin(models.Model):
    worth = models.DecimalField(max_digits=12, decimal_places=4, primary_key=True)
    file = models.FileField()


class Moment(models.Model):
    at = models.DateTimeField(primary_key=True)
    file = models.FileField()


class Legacy(models.Model):
    """Nobody makes its table."""

    file = models.FileField()

    class Meta:
        managed = False


class NullFileField(models.FileField):
    """As people write it to have NULL for no file, so that it can be unique."""

    def get_prep_value(self, value: Any) -> Any:
        return super().get_prep_value(value) or None


class OpenedFileField(models.FileField):
    """Queries give no text but a file."""

    def from_db_value(self, value: Any, *_: object) -> Any:
        return value and File(None, name=value)


class Odd(models.Model):
    alone = NullFileField(null=True, unique=True)
    opened = OpenedFileField(blank=True)


if django.VERSION >= (5, 2):

    class Page(models.Model):
        pk = models.CompositePrimaryKey("book_id", "at")
        book = models.ForeignKey(Owner, on_delete=models.CASCADE)
        at = models.DateTimeField()
        scan = models.FileField()
