"""The upload page with its gallery, and what its buttons do."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.storage import default_storage
from django.core.paginator import Paginator
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import content_disposition_header
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django.views.static import serve

from project.gallery import status
from project.gallery.forms import ReplaceForm, UploadForm
from project.gallery.models import Picture
from replicator import local

PER_PAGE = 24
#: Shown in the page; everything else is downloaded, so that an uploaded page can't act in the visitor's name.
INLINE = {"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"}


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def gallery(request: HttpRequest) -> HttpResponse:
    form = UploadForm(request.POST or None, request.FILES or None) if request.method == "POST" else UploadForm()
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            picture = Picture.objects.create(
                title=form.cleaned_data["title"],
                image=form.cleaned_data["image"],
                attachment=form.cleaned_data["attachment"] or "",
            )
        messages.success(request, f"“{picture.title}” is saved, and on its way to every media host.")
        return redirect("gallery")
    page = Paginator(Picture.objects.all(), PER_PAGE).get_page(request.GET.get("page"))
    context: dict[str, Any] = {
        "form": form,
        "page": page,
        "cards": _cards(list(page)),
        "hosts": status.hosts(),
        "leaving": status.leaving(),
        "flower_url": settings.FLOWER_URL,
    }
    return render(request, "gallery/gallery.html", context, status=422 if form.is_bound else 200)


@login_required
@require_GET
@never_cache
def status_json(request: HttpRequest) -> JsonResponse:
    """Where the files of ``?ids=1,2,3`` are, the hosts' health, and the deleted files still on their way out."""
    ids = [int(pk) for pk in request.GET.get("ids", "").split(",")[:PER_PAGE] if pk.isascii() and pk.isdigit()]
    return JsonResponse(status.as_json(Picture.objects.filter(pk__in=ids)))


@login_required
@require_POST
def replace(request: HttpRequest, pk: int) -> HttpResponse:
    """New content under the same name: what the hosts must not mix up with the old."""
    picture = get_object_or_404(Picture, pk=pk)
    name = str(picture.image.name)
    form = ReplaceForm(request.POST, request.FILES, name=name)
    if form.is_valid():
        default_storage.replace(name, form.cleaned_data["image"])  # type: ignore[attr-defined]  # a ReplicatedStorage
        messages.success(request, f"“{picture.title}” is overwritten; every media host gets the new content.")
    else:
        for error in form.errors.get("image", []):
            messages.error(request, str(error))
    return redirect("gallery")


@login_required
@require_POST
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    picture = get_object_or_404(Picture, pk=pk)
    with transaction.atomic():
        for file in picture.files():
            file.delete(save=False)
        picture.delete()
    messages.success(request, f"“{picture.title}” is deleted here; every media host follows.")
    return redirect("gallery")


@require_GET
def media(request: HttpRequest, name: str) -> HttpResponseBase:
    """The local copy, where no media host is in front of the site (``SERVE_MEDIA``)."""
    if local.is_ours(name):
        raise Http404
    answer = serve(request, name, document_root=str(settings.MEDIA_ROOT))
    answer["X-Content-Type-Options"] = "nosniff"
    if answer.get("Content-Type", "").partition(";")[0] not in INLINE:
        answer["Content-Disposition"] = content_disposition_header(True, PurePosixPath(name).name) or "attachment"
    return answer


def _cards(pictures: list[Picture]) -> list[dict[str, Any]]:
    found = status.of_names(str(file.name) for picture in pictures for file in picture.files())
    cards = []
    for picture in pictures:
        files = []
        for file in picture.files():
            known = found.get(str(file.name))
            # The version makes a browser ask again after an overwrite.
            url = f"{file.url}?v={known.version[:8]}" if known else file.url
            base = PurePosixPath(str(file.name)).name
            files.append({"name": file.name, "base": base, "url": url, "badges": known.badges if known else []})
        cards.append({"picture": picture, "files": files, "image_url": files[0]["url"]})
    return cards
