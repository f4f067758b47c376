"""The upload page with its gallery, and what its buttons do."""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.storage import default_storage
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models.fields.files import FieldFile
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import content_disposition_header
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django.views.static import serve

from project.gallery import status
from project.gallery.forms import AvatarForm, ReplaceForm, UploadForm
from project.gallery.models import Picture, Profile
from replicator import local
from replicator.views import serve_mogilefs_file

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
                thumb=form.new_thumb,
            )
        messages.success(request, f"“{picture.title}” is saved, and on its way to every media host.")
        return redirect("gallery")
    page = Paginator(Picture.objects.all(), PER_PAGE).get_page(request.GET.get("page"))
    context: dict[str, Any] = {
        "form": form,
        "page": page,
        "cards": _cards(list(page)),
        "profile": _profile(request) if settings.WITH_MOGILEFS else None,
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
    profiles = Profile.objects.filter(user_id=_user_id(request))
    return JsonResponse(status.as_json(Picture.objects.filter(pk__in=ids), profiles))


@login_required
@require_POST
def replace(request: HttpRequest, pk: int) -> HttpResponse:
    """New content under the same name: what the hosts must not mix up with the old."""
    picture = get_object_or_404(Picture, pk=pk)
    name = str(picture.image.name)
    form = ReplaceForm(request.POST, request.FILES, name=name)
    if form.is_valid():
        with transaction.atomic():
            default_storage.replace(name, form.cleaned_data["image"])  # type: ignore[attr-defined]  # a ReplicatedStorage
            if picture.thumb:
                # It shows the old image; none is better, until a browser makes another.
                picture.thumb.delete(save=False)
            picture.thumb = form.new_thumb
            picture.save(update_fields=["thumb"])
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


@login_required
@require_POST
def avatar(request: HttpRequest) -> HttpResponse:
    """A new avatar for who is logged in."""
    form = AvatarForm(request.POST, request.FILES)
    if form.is_valid():
        with transaction.atomic():
            profile, _ = Profile.objects.get_or_create(user_id=_user_id(request))
            if profile.avatar:
                profile.avatar.delete(save=False)
            profile.avatar = form.cleaned_data["avatar"]
            profile.save()
        messages.success(request, "Your avatar is saved, and on its way to MogileFS and every media host.")
    else:
        for error in form.errors.get("avatar", []):
            messages.error(request, str(error))
    return redirect("gallery")


def from_mogilefs(request: HttpRequest, key: str) -> HttpResponseBase:
    """An avatar or a thumb, from MogileFS; on its way there, from here."""
    return serve_mogilefs_file(request, key, as_attachment=mimetypes.guess_type(key)[0] not in INLINE)


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


def _user_id(request: HttpRequest) -> int:
    return int(request.user.pk or 0)  # nobody's, where nobody is logged in


def _cards(pictures: list[Picture]) -> list[dict[str, Any]]:
    known = status.of_files(file for picture in pictures for file in picture.files())
    cards = []
    for picture in pictures:
        files = [_shown(file, known) for file in picture.files()]
        image = files[0]["url"]
        preview = files[-1]["url"] if picture.thumb else image
        cards.append({"picture": picture, "files": files, "image_url": image, "preview_url": preview})
    return cards


def _profile(request: HttpRequest) -> dict[str, Any]:
    files = [file for profile in Profile.objects.filter(user_id=_user_id(request)) for file in profile.files()]
    known = status.of_files(files)
    return {"form": AvatarForm(), "files": [_shown(file, known) for file in files]}


def _shown(file: FieldFile, known: dict[str, status.FileStatus]) -> dict[str, Any]:
    path = status.path_of(file)
    its = known.get(path)
    return {
        "name": path,
        "base": PurePosixPath(path).name,
        # The version makes a browser ask again after an overwrite.
        "url": f"{file.url}?v={its.version[:8]}" if its else file.url,
        "mogile_class": its.mogile_class if its else "",
        "badges": its.badges if its else [],
    }
