"""A view that saves a file, and fails if asked to."""

from __future__ import annotations

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.http import HttpRequest, HttpResponse
from django.urls import path


def save(request: HttpRequest) -> HttpResponse:
    default_storage.save(request.GET["name"], ContentFile(b"from a request"))
    if "fail" in request.GET:
        default_storage.delete("old.txt")
        raise RuntimeError("as told")
    return HttpResponse()


urlpatterns = [path("save/", save)]
