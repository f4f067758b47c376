"""File fields, as sites have them: a picture with its files, a person with an avatar, a file of each shape."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.db import models
from django.db.models.fields.files import FieldFile

from project.gallery import storages
from project.gallery.storages import avatars, thumbs


class Picture(models.Model):
    title = models.CharField(max_length=120)
    image = models.FileField(upload_to="pictures/%Y/%m/", max_length=255)
    attachment = models.FileField(upload_to="attachments/%Y/%m/", max_length=255, blank=True)
    thumb = models.FileField(upload_to="%Y/%m/", max_length=255, blank=True, storage=thumbs)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.title

    def files(self) -> Iterator[FieldFile]:
        """Those of its three files that there are."""
        return (file for file in (self.image, self.attachment, self.thumb) if file)


class Profile(models.Model):
    """What a user shows of themselves."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="profile")
    avatar = models.FileField(max_length=255, blank=True, storage=avatars)

    def __str__(self) -> str:
        return str(self.user)

    def files(self) -> Iterator[FieldFile]:
        """Its file, if there is one."""
        return (file for file in (self.avatar,) if file)


class Example(models.Model):
    """A file that was saved to show what one storage does: the field with that storage's name has it."""

    shape = models.CharField(max_length=20, db_index=True)
    assets = models.FileField(max_length=255, blank=True, storage=storages.assets)
    private = models.FileField(max_length=255, blank=True, storage=storages.private)
    archive = models.FileField(max_length=255, blank=True, storage=storages.archive)
    careful = models.FileField(max_length=255, blank=True, storage=storages.careful)
    cdn = models.FileField(max_length=255, blank=True, storage=storages.cdn)
    bucket = models.FileField(max_length=255, blank=True, storage=storages.bucket)
    seconds = models.FloatField(null=True, help_text="that the save took")
    copies = models.PositiveSmallIntegerField(null=True, help_text="that were confirmed when it ended")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.shape}: {self.file.name}"

    @property
    def file(self) -> FieldFile:
        found: FieldFile = getattr(self, self.shape)
        return found
