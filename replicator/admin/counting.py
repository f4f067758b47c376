"""Lists of millions of rows, counted no further than people look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property
from django.utils.translation import gettext

if TYPE_CHECKING:
    BasePaginator = Paginator[Any]
else:
    BasePaginator = Paginator

#: Rows that are counted: their pages can be turned one by one.
MOST = 10_000


class AtLeast(int):
    """A number of which no more is known than that there are more: the admin shows it as text."""

    def __str__(self) -> str:
        return gettext("more than %(count)s") % {"count": f"{int(self):,}"}


class CappedPaginator(BasePaginator):
    """Counts up to 10,000 rows, which takes milliseconds however many there are; whoever wants others filters."""

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        # Filters and search stay, order and what is fetched along do not.
        counted = rows.order_by().select_related(None).prefetch_related(None).values("pk")[: MOST + 1].count()
        return AtLeast(MOST) if counted > MOST else counted
