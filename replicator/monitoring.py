"""The views that monitors ask: is this process up, can it do its work, and how does everything stand."""

from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from replicator.conf import config
from replicator.metrics import ReplicatorCollector
from replicator.readiness import OK, readiness

_REFUSED = """\
Metrics are for Prometheus, and for staff who are logged in.
Write a token into the settings, REPLICATOR["METRICS_TOKEN"] = "…", and the same into Prometheus' configuration:

scrape_configs:
  - job_name: replicator
    authorization: {credentials: "…"}
"""

_registry = CollectorRegistry(auto_describe=False)
_registry.register(ReplicatorCollector())


@transaction.non_atomic_requests
@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """200 if this process answers; nothing else is asked."""
    return HttpResponse("ok\n", content_type="text/plain; charset=utf-8")


@transaction.non_atomic_requests
@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """200 if the database, the broker and the disk answer, else 503; which of them, in a word or two each."""
    checks = readiness()
    ready = all(said == OK for said in checks.values())
    return JsonResponse({"ready": ready, "checks": checks}, status=200 if ready else 503)


@transaction.non_atomic_requests
@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """The metrics, for who sends ``METRICS_TOKEN`` and for staff who are logged in; 401 with what to write else."""
    if not _may_read(request):
        answer = HttpResponse(_REFUSED, status=401, content_type="text/plain; charset=utf-8")
        answer["WWW-Authenticate"] = 'Bearer realm="metrics"'
        return answer
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(_registry), content_type=content_type)


def _may_read(request: HttpRequest) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        # No session is looked at: who scrapes has none, and needs no database to be refused.
        token = config().metrics_token
        return bool(token) and constant_time_compare(given.strip(), token)
    user = getattr(request, "user", None)
    return user is not None and bool(user.is_active and user.is_staff)
