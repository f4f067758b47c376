"""Pages that keep themselves up to date: parts of them are made anew, and sent to their script as JSON."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.template.loader import render_to_string
from django.utils.cache import add_never_cache_headers

#: Seconds between two looks; of a page on which nothing happens any more, the script looks no more.
EVERY = 3


def parts(
    request: HttpRequest, templates: dict[str, str], context: dict[str, Any], *, over: bool = False
) -> JsonResponse:
    """*templates*: name of a part in the page (``data-part``) → what makes it."""
    html = {name: render_to_string(template, context, request) for name, template in templates.items()}
    response = JsonResponse({"parts": html, "over": over})
    add_never_cache_headers(response)
    return response
