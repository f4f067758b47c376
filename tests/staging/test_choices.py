"""What people may choose, and what they are told of what they can't."""

from __future__ import annotations

import json
import re
import warnings
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import django
import pytest
from django.db import connection
from django.test import override_settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from replicator.staging.base import NotCopied
from replicator.staging.choices import (
    Choices,
    parse_filter,
    parse_only,
    parse_sample,
    parse_since,
    parse_size,
)
from replicator.staging.filters import Filter
from replicator.staging.walking import read, total
from tests.staging.shop import models as shop

EVERYTHING = Choices(
    only=("shop.Photo.thumb", "shop.Letter"),
    filters=(Filter("shop.Photo", "title__in", "a,b"), Filter("shop.Photo", "public", "true")),
    since=datetime(2026, 1, 1, 12, 30, 0, 5, tzinfo=UTC),
    sample=0.1,
    max_size=20 * 1024**2,
    compare="checksum",
    newest_first=True,
    dry_run=True,
    overwrite_newer=True,
    require_read_only=True,
)


def said(words: str) -> Any:
    return pytest.raises(NotCopied, match=re.escape(words))


# Kept with the run


@pytest.mark.parametrize("choices", [Choices(), EVERYTHING])
def test_choices_come_back_from_json_as_they_were(choices: Choices) -> None:
    """A run keeps them in a column, for workers that start later."""
    assert Choices.from_json(json.loads(json.dumps(choices.as_json()))) == choices


def test_choices_of_an_older_version_lack_some_and_those_of_a_newer_are_refused() -> None:
    """Left out in silence, a choice could copy what somebody excluded."""
    assert Choices.from_json({}) == Choices()
    with said("another version: colour."):
        Choices.from_json({**Choices().as_json(), "colour": "red"})


# Models and fields


def test_everything_is_chosen_unless_something_is() -> None:
    labels = [each.label for each in Choices().selected()]
    assert "shop.Photo" in labels
    assert "shop.Clip" in labels


def test_an_app_a_model_and_a_field_can_be_chosen_together() -> None:
    """What one of them names is taken, once."""
    chosen = Choices(only=["shop.Photo.thumb", "shop.Odd.opened", "shop.Odd", "shop.Letter"]).selected()
    assert [(each.label, each.names) for each in chosen] == [
        ("shop.Letter", ["scan"]),
        ("shop.Odd", ["alone", "opened"]),
        ("shop.Photo", ["thumb"]),
    ]
    assert {each.model._meta.app_label for each in Choices(only=["shop"]).selected()} == {"shop"}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("shop", "shop"),
        (" shop.Photo ", "shop.Photo"),
        ("shop.photo", "shop.Photo"),
        ("shop.PHOTO.thumb", "shop.Photo.thumb"),
        ("shop.Clip.poster", "shop.Clip.poster"),
    ],
)
def test_a_label_is_taken_as_django_takes_it(text: str, label: str) -> None:
    assert parse_only(text) == label


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("shopp", "This site has no app 'shopp' with file fields. Did you mean 'shop'?"),
        ("auth", "This site has no app 'auth' with file fields."),
        ("", "This site has no app '' with file fields."),
        ("shop.Foto", "This site has no model shop.Foto. Did you mean 'shop.Photo'?"),
        ("shpo.Photo", "This site has no model shpo.Photo. Did you mean 'shop.Photo'?"),
        ("shop.", "This site has no model shop.."),
        ("shop.Photo.thumbs", "shop.Photo has no file field 'thumbs'. Did you mean 'thumb'?"),
        ("shop.Photo.title", "shop.Photo has no file field 'title'. Known: image, thumb."),
        ("shop.Photo.image.url", "shop.Photo has no file field 'image.url'. Did you mean 'image'?"),
        ("shop.Tag", "shop.Tag has no file fields. Models that have some: shop.Clip, shop.Coin"),
        ("shop.PublicPhoto", "shop.PublicPhoto has no table of its own. Write shop.Photo."),
        ("shop.PublicPhoto.thumb", "Write shop.Photo.thumb."),
        ("shop.Song", "shop.Song has file fields only in the table of shop.Medium. Write shop.Medium."),
        ("shop.Clip.file", "shop.Clip.file is in the table of shop.Medium. Write shop.Medium.file."),
    ],
)
def test_an_unknown_app_model_or_field_is_answered_with_what_to_write(text: str, words: str) -> None:
    with said(words):
        parse_only(text)


def test_nothing_to_copy_is_told() -> None:
    """The code may have changed since the choice was made."""
    with said("no models with file fields among shop.Gone: there is nothing to copy"):
        Choices(only=["shop.Gone"]).selected()


# Filters


def value_of(text: str) -> Any:
    """What Django is asked with."""
    found = parse_filter(text)
    (model,) = (each.model for each in Choices().selected() if each.label == found.label)
    ((lookup, value),) = found.condition(model).children  # type: ignore[misc]
    assert lookup == found.lookup
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("shop.Photo:title=a=b:c, d", "a=b:c, d"),
        ("shop.photo:title=", ""),
        ("shop.Photo:title__icontains=2026", "2026"),
        ("shop.Photo:title__in=a, b,c", ["a", "b", "c"]),
        ("shop.Photo:image__startswith=2026/", "2026/"),
        ("shop.Photo:pk__gt=12", 12),
        ("shop.Photo:pk__in=1,2", [1, 2]),
        ("shop.Photo:width__range=100,200", [100, 200]),
        ("shop.Photo:width__contains=10", "10"),
        ("shop.Photo:price__lte=9.90", Decimal("9.90")),
        ("shop.Photo:day=2026-03-01", date(2026, 3, 1)),
        ("shop.Photo:created__date__gte=2026-03-01", date(2026, 3, 1)),
        ("shop.Photo:created__year=2026", 2026),
        ("shop.Photo:created__year__in=2025,2026", [2025, 2026]),
        ("shop.Photo:public=true", True),
        ("shop.Photo:public=No", False),
        ("shop.Photo:thumb__isnull=False", False),
        ("shop.Photo:shelf__isnull=1", True),
        ("shop.Photo:shelf=A7", "A7"),
        ("shop.Photo:shelf_id__in=A7,B8", ["A7", "B8"]),
        ("shop.Photo:shelf__code__startswith=A", "A"),
        ("shop.Photo:tags=3", 3),
        ("shop.Photo:tags__rank__lt=3", 3),
        ("shop.Photo:shelf__photos__tags__in=3,4", [3, 4]),
        ("shop.Photo:extra__colour=red", "red"),
        ("shop.Photo:extra__measures__0__gt=5", 5),
        ("shop.Photo:extra__has_keys=a,b", ["a", "b"]),
        ("shop.Clip:file__endswith=.mp4", ".mp4"),
        ("shop.Clip:medium_ptr__in=3,4", [3, 4]),
        ("shop.Profile:owner__photo__contains=x", "x"),
    ],
)
def test_a_value_is_converted_as_its_look_up_needs(text: str, value: Any) -> None:
    found = value_of(text)
    assert found == value
    assert type(found) is type(value)


def test_a_one_to_one_keys_value_is_one_of_the_others() -> None:
    number = "6c1f2a52-5d0c-4bd5-8f1b-0123456789ab"
    assert str(value_of(f"shop.Profile:owner={number}")) == number
    assert str(value_of(f"shop.Profile:pk__gte={number}")) == number


def test_a_time_without_a_zone_is_of_the_current_one_wherever_it_is_asked() -> None:
    """A worker's time zone may not be that of who typed it; and no warning of a naive time is given."""
    with warnings.catch_warnings(), timezone.override(ZoneInfo("Asia/Tokyo")):
        warnings.simplefilter("error")
        day = parse_filter("shop.Photo:created__gte=2026-01-01")
        both = parse_filter("shop.Photo:created__range=2026-01-01 10:00,2026-02-01T10:00Z")
    assert day == Filter("shop.Photo", "created__gte", "2026-01-01T00:00:00+09:00")
    assert both.text == "2026-01-01T10:00:00+09:00,2026-02-01T10:00:00+00:00"
    with timezone.override(UTC):
        condition = day.condition(shop.Photo)
    assert condition.children == [("created__gte", datetime(2025, 12, 31, 15, tzinfo=UTC))]


@override_settings(USE_TZ=False, TIME_ZONE="Asia/Tokyo")
def test_a_site_without_time_zones_is_asked_in_its_own() -> None:
    assert value_of("shop.Photo:created__gte=2026-01-01") == datetime(2026, 1, 1)
    assert value_of("shop.Photo:created__gte=2026-01-01T00:00Z") == datetime(2026, 1, 1, 9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("shop.Photo", "is no filter. Write app.Model:lookup=value, such as blog.Post:created__gte=2026-01-01."),
        ("title=x", "is no filter."),
        ("shop.Photo:title", "is no filter."),
        (":title=x", "is no filter."),
        ("shop.Photo:=x", "is no filter."),
        ("shop.Foto:title=x", "This site has no model shop.Foto. Did you mean 'shop.Photo'?"),
        ("shop:title=x", "This site has no model shop."),
        ("shop.Photo.thumb:title=x", "a filter is of a model, not of one field. Write shop.Photo:title=x."),
        ("shop.Tag:name=x", "shop.Tag has no file fields."),
        ("shop.Photo:titel=x", "shop.Photo has no field 'titel'. Did you mean 'title'?"),
        ("shop.Photo:shelf__cod=x", "shop.Shelf has no field 'cod'. Did you mean 'code'?"),
        ("shop.Photo:tags__rnk__gt=1", "shop.Tag has no field 'rnk'. Did you mean 'rank'?"),
        ("shop.Photo:tags__gtee=1", "shop.Tag has no field 'gtee'. Did you mean 'gte'?"),
        ("shop.Photo:created__gtee=2026-01-01", "shop.Photo.created has no look-up 'gtee'. Did you mean 'gte'?"),
        ("shop.Photo:created__yaer=2026", "shop.Photo.created has no look-up 'yaer'. Did you mean 'year'?"),
        ("shop.Photo:created__year__gtee=2026", "shop.Photo.created has no look-up 'gtee'. Did you mean 'gte'?"),
        ("shop.Photo:title__exact__lower=x", "shop.Photo.title has no look-up 'exact'."),
        ("shop.Photo:shelf__in__code=x", "shop.Shelf has no field 'in'."),
        ("shop.Letter:about=3", "'about' can lead to any model."),
        ("shop.Photo:created__gte=yesterday", "shop.Photo:created__gte=yesterday: “yesterday” value has an invalid"),
        ("shop.Photo:day=2026-13-01", "invalid date"),
        ("shop.Photo:pk__in=1,x", "“x” value must be an integer."),
        ("shop.Photo:width=", "value must be an integer."),
        ("shop.Photo:price=cheap", "must be a decimal number"),
        ("shop.Photo:public=maybe", "write true or false"),
        ("shop.Photo:thumb__isnull=maybe", "write true or false"),
        ("shop.Photo:width__range=1", "a range has two ends. Write width__range=first,last."),
        ("shop.Photo:width__range=1,2,3", "a range has two ends."),
        ("shop.Profile:owner=me", "is not a valid UUID"),
    ],
)
def test_a_filter_that_is_wrong_is_answered_with_what_to_write(text: str, words: str) -> None:
    """Nothing is copied for a filter that would do something else than it says."""
    with said(words):
        parse_filter(text)


def test_a_look_up_that_this_database_lacks_is_told_at_once() -> None:
    """Not when the copy has come to this model."""
    if connection.features.supports_json_field_contains:
        assert value_of('shop.Photo:extra__contains={"a": 1}') == {"a": 1}
    else:
        with said("this can't be asked: contains lookup is not supported on this database backend."):
            parse_filter('shop.Photo:extra__contains={"a": 1}')


def test_a_filter_is_of_a_model_that_is_chosen() -> None:
    """Else it would change nothing, and somebody believes that it does."""
    assert parse_filter("shop.Photo:title=x", only=["shop.Photo.thumb"])
    with said("shop.Photo is not chosen. Choose it too, or leave the filter out."):
        parse_filter("shop.Photo:title=x", only=["shop.Letter"])
    with said("shop.Photo is not chosen."):
        Choices(only=["shop.Letter"], filters=[Filter("shop.Photo", "title", "x")]).selected()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("lookup", "fits"),
    [
        ("created__gte=2026-01-01T00:00Z", ["new"]),
        ("created__range=2025-01-01T00:00Z,2025-12-31T00:00Z", ["old"]),
        ("title__in=new,other", ["new"]),
        ("tags__name__in=a,b", ["old"]),
        ("shelf__isnull=false", ["old"]),
        ("shelf=A7", ["old"]),
        ("extra__measures__0__gt=5", ["new"]),
        ("extra__colour=red", ["old"]),
        *([("pk=99999999999999999999", [])] if django.VERSION >= (5,) else []),  # 4.2 raises an error on SQLite
        ("title__regex=^.l", ["old"]),
    ],
)
def test_the_database_understands_what_was_typed(lookup: str, fits: list[str]) -> None:
    shelf = shop.Shelf.objects.create(code="A7")
    old = shop.Photo(title="old", thumb="old.jpg", created=datetime(2025, 5, 1, tzinfo=UTC), extra={"colour": "red"})
    new = shop.Photo(title="new", thumb="new.jpg", created=datetime(2026, 5, 1, tzinfo=UTC), extra={"measures": [7]})
    old.shelf = shelf
    shop.Photo.objects.bulk_create([old, new])
    old.tags.set([shop.Tag.objects.create(name=name) for name in "ab"])
    choices = Choices(only=["shop.Photo"], filters=[parse_filter(f"shop.Photo:{lookup}")])
    (of,) = choices.selected()
    assert [row.names[0][1] for row in read(of, choices, None, 10).rows] == [f"{name}.jpg" for name in fits]
    assert total(of, choices) == len(fits)


# The sample


def test_a_sample_is_of_about_the_size_that_was_asked_for() -> None:
    for percent in (1, 5, 50):
        taken = sum(Choices(sample=percent).samples("shop.Photo", str(key)) for key in range(20_000))
        assert 0.85 < taken / 20_000 / (percent / 100) < 1.15


def test_samples_of_two_models_are_not_the_same_keys() -> None:
    choices = Choices(sample=10)
    taken = [{key for key in range(1000) if choices.samples(label, str(key))} for label in ("shop.Photo", "shop.Odd")]
    assert taken[0] != taken[1]


@given(key=st.text(), small=st.floats(0.001, 100), large=st.floats(0.001, 100))
def test_a_larger_sample_holds_the_smaller(key: str, small: float, large: float) -> None:
    """So that going on with more costs only what is new; all of it is everything."""
    small, large = sorted([small, large])
    key = key.encode(errors="replace").decode()
    assert Choices(sample=large).samples("a.B", key) >= Choices(sample=small).samples("a.B", key)
    assert Choices(sample=100).samples("a.B", key)
    assert Choices().samples("a.B", key)


# What people type


@pytest.mark.parametrize(("text", "percent"), [("5%", 5.0), (" 0.1 % ", 0.1), ("100%", 100.0)])
def test_a_sample_is_percents(text: str, percent: float) -> None:
    assert parse_sample(text) == percent


@pytest.mark.parametrize("text", ["", "5", "0%", "101%", "-5%", "1,5%", "nan%", "five%", "%", "\u0665%"])
def test_another_sample_is_refused(text: str) -> None:
    """A number alone could be a share, percents, or rows."""
    with said("is no sample. Write percents, such as 5% or 0.1%."):
        parse_sample(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500", 500),
        ("500 bytes", 500),
        ("500B", 500),
        ("1K", 1024),
        ("20M", 20 * 1024**2),
        ("20 MiB", 20 * 1024**2),
        ("20mi", 20 * 1024**2),
        ("20 MB", 20_000_000),
        ("1.5 GiB", 1536 * 1024**2),
        ("2T", 2 * 1024**4),
    ],
)
def test_a_size_has_any_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "M", "20X", "-20M", "1,5 GiB", "1e3", "20 M B", "99999999T", "0.4", "2iB"])
def test_another_size_is_refused(text: str) -> None:
    with said("is no size of a file. Write such as 500 KiB, 20M or 1.5 GiB."):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-01", datetime(2025, 12, 31, 15, tzinfo=UTC)),
        ("2026-01-01 12:00", datetime(2026, 1, 1, 3, tzinfo=UTC)),
        ("2026-01-01T12:00:30.5+02:00", datetime(2026, 1, 1, 10, 0, 30, 500000, tzinfo=UTC)),
        ("2026-01-01 12:00Z", datetime(2026, 1, 1, 12, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("use_tz", [True, False])
def test_since_is_a_date_in_the_current_time_zone(text: str, moment: datetime, use_tz: bool) -> None:
    """Aware also on a site without time zones: a source's times always are."""
    with override_settings(USE_TZ=use_tz), timezone.override(ZoneInfo("Asia/Tokyo")):
        assert parse_since(text) == moment


@pytest.mark.parametrize(
    ("text", "age"), [("30d", timedelta(days=30)), ("12 h", timedelta(hours=12)), ("2W", timedelta(weeks=2))]
)
def test_since_is_an_age(text: str, age: timedelta) -> None:
    assert abs(datetime.now(UTC) - age - parse_since(text)) < timedelta(seconds=10)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "30", "30m", "-3d", "01.02.2026", f"{10**9}d"])
def test_another_date_is_refused(text: str) -> None:
    with said("is no date. Write such as 2026-01-01, 2026-01-01 12:00, or an age: 12h, 30d, 2w."):
        parse_since(text)


def test_a_date_to_come_is_refused() -> None:
    """It would leave out everything."""
    with said("is to come"):
        parse_since("2999-01-01")


# In words


def test_choices_are_told_in_sentences() -> None:
    assert Choices().words() == ["All file fields.", "Files that are here with the same size are left alone."]
    with timezone.override(UTC):
        assert EVERYTHING.words() == [
            "Only shop.Photo.thumb, shop.Letter.",
            "Of shop.Photo only rows with title__in=a,b.",
            "Of shop.Photo only rows with public=true.",
            "A sample of 0.1% of the rows.",
            "Only files modified since 2026-01-01 12:30 UTC.",
            "Only files of at most 20 MiB.",
            "Files that are here with the same checksum are left alone, where the source knows one.",
            "Files that are newer here are overwritten.",
            "The newest rows come first.",
            "The source must refuse writes.",
            "A dry run: nothing is copied.",
        ]
    assert "Files that are here are copied again." in Choices(compare="nothing").words()
    assert "Only files of at most 1,500 bytes." in Choices(max_size=1500).words()


@pytest.mark.skipif(django.VERSION < (5, 2), reason="Django 5.2 is the first to have them")
def test_a_composite_key_can_be_asked_for() -> None:
    owner = "6c1f2a52-5d0c-4bd5-8f1b-0123456789ab"
    (key, at) = value_of(f'shop.Page:pk__gt=["{owner}", "2026-01-01T00:00Z"]')
    assert (str(key), at) == (owner, datetime(2026, 1, 1, tzinfo=UTC))
    assert str(value_of(f"shop.Page:book={owner}")) == owner
