"""The page of storage shapes, and what its buttons do."""

from __future__ import annotations

import time

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.base import ContentFile
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from project.gallery import shapes, status
from project.gallery.forms import ExampleForm
from project.gallery.models import Example
from replicator.waiting import NotSynced


@login_required
@require_safe
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    context = {
        "cards": shapes.cards(),
        "form": ExampleForm(),
        "hosts": status.hosts(),
        "flower_url": settings.FLOWER_URL,
        "with_s3": "bucket" in settings.STORAGES,
    }
    return render(request, "gallery/shapes.html", context)


@login_required
@require_POST
def save(request: HttpRequest, alias: str) -> HttpResponse:
    """Save the file that was chosen, or a small one, and note how that went."""
    shape = shapes.find(alias)
    if shape is None:
        raise Http404
    form = ExampleForm(request.POST, request.FILES)
    if not form.is_valid():
        for error in form.errors.get("file", []):
            messages.error(request, f"{shape.title}: {error}")
        return redirect("shapes")
    now = timezone.now()
    file = form.cleaned_data["file"] or ContentFile(f"Saved at {now:%H:%M:%S} UTC.\n".encode(), "example.txt")
    example = Example(shape=alias, **{alias: file})
    began = time.perf_counter()
    try:
        with transaction.atomic():
            example.save()
    except NotSynced as error:
        # The row and the file are committed: what is lacking are copies.
        example.seconds = time.perf_counter() - began
        messages.error(request, f"{shape.title}: {str(error).splitlines()[0]} It is kept, and still on its way.")
    else:
        example.seconds = time.perf_counter() - began
        messages.success(request, f"{shape.title}: {example.file.name} is saved.")
    example.copies = shapes.confirmed(example.file)
    Example.objects.filter(pk=example.pk).update(seconds=example.seconds, copies=example.copies)
    return redirect(f"{reverse('shapes')}#{alias}")


@login_required
@require_POST
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    example = get_object_or_404(Example, pk=pk)
    if shapes.find(example.shape) is None:
        # Its column has another storage then, where a file of that name is somebody else's.
        raise Http404
    with transaction.atomic():
        example.file.delete(save=False)
        example.delete()
    return redirect(f"{reverse('shapes')}#{example.shape}")
