"""Which rows a copy reads, and what of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import django
import pytest
from django.apps.registry import Apps
from django.db import DatabaseError, connection, connections, models, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replicator.staging import filefields, walking
from replicator.staging.base import NotCopied
from replicator.staging.choices import Choices, Filter
from replicator.staging.walking import FileFields, Row, fields_of, file_fields, read, total
from tests.staging.shop import models as shop

pytestmark = pytest.mark.django_db

ALL = Choices()
WHEN = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


def of(model: type[models.Model]) -> FileFields:
    (found,) = (each for each in file_fields() if each.model is model)
    return found


def pages(model: type[models.Model], choices: Choices = ALL, limit: int = 1) -> Iterator[list[Row]]:
    """Every page, the cursor kept as a run keeps it."""
    after = None
    while True:
        walked = read(of(model), choices, after, limit)
        yield list(walked.rows)
        if walked.done:
            return
        assert walked.count == limit
        after = json.loads(json.dumps(walked.cursor))


def walk(model: type[models.Model], choices: Choices = ALL, limit: int = 1) -> list[str]:
    """The keys of all rows."""
    return [row.text for page in pages(model, choices, limit) for row in page]


def photos(**each: list[Any]) -> list[shop.Photo]:
    """One for each value."""
    ((column, values),) = each.items()
    # With its measures, a photo is not opened to take them.
    rows = [shop.Photo(image=f"{n}.jpg", width=1, height=1, **{column: value}) for n, value in enumerate(values)]
    return [*shop.Photo.objects.bulk_create(rows)]


def test_every_column_with_names_of_files_is_there_once() -> None:
    """Inherited through a table: the parent's; from an abstract model: each child's; proxies have none."""
    found = {each.label: each.names for each in file_fields() if each.label.startswith("shop.")}
    expected = {
        "shop.Clip": ["poster"],
        "shop.Coin": ["file"],
        "shop.Invoice": ["scan"],
        "shop.Legacy": ["file"],
        "shop.Letter": ["scan"],
        "shop.Medium": ["file"],
        "shop.Moment": ["file"],
        "shop.Odd": ["alone", "opened"],
        "shop.Owner": ["photo"],
        "shop.Photo": ["image", "thumb"],
        "shop.Profile": ["avatar"],
        "shop.Sheet": ["file"],
    }
    assert {label: found[label] for label in found if label != "shop.Page"} == expected
    assert [each.label for each in file_fields()] == sorted(each.label for each in file_fields())


def test_a_model_that_is_swapped_out_is_the_one_that_is_there_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has no table."""
    apps = Apps(["tests.staging.shop"])
    for name, options in (("Face", {"swappable": "SHOP_FACE"}), ("OwnFace", {})):
        meta = type("Meta", (), {"app_label": "shop", "apps": apps, **options})
        type(name, (models.Model,), {"file": models.FileField(), "Meta": meta, "__module__": "elsewhere"})
    monkeypatch.setattr(filefields, "apps", apps)
    assert [each.label for each in file_fields()] == ["shop.Face", "shop.OwnFace"]
    with override_settings(SHOP_FACE="shop.OwnFace"):
        apps.clear_cache()
        assert [each.label for each in file_fields()] == ["shop.OwnFace"]
        with pytest.raises(NotCopied, match=re.escape("shop.Face has no table of its own. Write shop.OwnFace.")):
            filefields.find_label("shop.Face")


def test_fields_are_found_again_by_their_names() -> None:
    assert fields_of("shop.Photo", ["thumb"]).names == ["thumb"]
    assert fields_of("shop.Photo", ["thumb", "image"]).names == ["image", "thumb"]


@pytest.mark.parametrize(
    ("label", "names", "words"),
    [
        ("shop.Photograph", ["image"], "no model shop.Photograph with file fields. Did you mean 'shop.Photo'?"),
        ("shop.Tag", ["name"], "no model shop.Tag with file fields."),
        ("shop.Photo", ["image", "thumbs"], "shop.Photo has no file field 'thumbs'. Did you mean 'thumb'?"),
    ],
)
def test_a_model_or_field_that_is_gone_is_named(label: str, names: list[str], words: str) -> None:
    """A run may be older than the site's code."""
    with pytest.raises(NotCopied, match=re.escape(words)):
        fields_of(label, names)


def test_no_manager_hides_a_row() -> None:
    """Not the default one, nor one that a model names as its base manager."""
    hidden, shown = photos(public=[False, True])
    assert list(shop.Photo._base_manager.all()) == [shown]
    assert walk(shop.Photo) == [str(hidden.pk), str(shown.pk)]
    assert total(of(shop.Photo), ALL) == 2


def test_only_keys_and_names_are_read() -> None:
    """Never whole rows: in one statement, that passes over nothing and returns no more than was asked for."""
    rows = photos(title=["a", "b", "c", "d"])
    with CaptureQueriesContext(connection) as asked:
        read(of(shop.Photo), ALL, str(rows[0].pk), 2)
    (statement,) = [each["sql"] for each in asked.captured_queries]
    columns = statement.partition(" FROM ")[0]
    assert set(re.findall(r'"shop_photo"\."(\w+)"', columns)) == {"id", "image", "thumb"}
    assert f'"shop_photo"."id" > {rows[0].pk}' in statement
    assert "LIMIT 2" in statement
    assert "OFFSET" not in statement
    assert "JOIN" not in statement


def test_rows_without_names_are_left_to_the_database() -> None:
    """NULL and empty names; one name of two is enough."""
    empty, one, other, both = photos(thumb=[None, "t1", "t2", ""])
    shop.Photo.objects.filter(pk__in=[empty.pk, one.pk]).update(image="")
    assert shop.Photo.objects.count() == 4
    walked = read(of(shop.Photo), ALL, None, 10)
    assert list(walked.rows) == [
        Row(str(one.pk), [("thumb", "t1")]),
        Row(str(other.pk), [("image", "2.jpg"), ("thumb", "t2")]),
        Row(str(both.pk), [("image", "3.jpg")]),
    ]
    assert (walked.count, walked.done) == (3, True)
    assert total(of(shop.Photo), ALL) == 3


def test_only_the_fields_that_were_chosen_are_looked_at() -> None:
    without, having = photos(thumb=[None, "t1"])
    walked = read(of(shop.Photo).narrowed(["thumb"]), ALL, None, 10)
    assert list(walked.rows) == [Row(str(having.pk), [("thumb", "t1")])]
    assert without.image


def test_a_field_may_give_a_file_for_its_name_and_null_for_an_empty_one() -> None:
    row = shop.Odd.objects.create(alone="a.jpg", opened="ü/b.jpg")
    shop.Odd.objects.create(alone="", opened="")
    third = shop.Odd.objects.create(alone="", opened="c.jpg")
    last = shop.Odd.objects.create(alone="d.jpg", opened="")
    assert [each for page in pages(shop.Odd) for each in page] == [
        Row(str(row.pk), [("alone", "a.jpg"), ("opened", "ü/b.jpg")]),
        Row(str(third.pk), [("opened", "c.jpg")]),
        Row(str(last.pk), [("alone", "d.jpg")]),
    ]


def made(kind: str) -> tuple[type[models.Model], list[models.Model]]:
    """A model with keys of this kind, and rows of it in the order of their keys."""
    owners = [shop.Owner(UUID(int=number), photo="p") for number in (1, 5, 2**127)]
    if kind == "uuid":
        return shop.Owner, [*shop.Owner.objects.bulk_create(owners)]
    if kind == "one to one":
        shop.Owner.objects.bulk_create(owners)
        return shop.Profile, [shop.Profile.objects.create(owner=owner, avatar="a") for owner in owners]
    if kind == "child's table":
        return shop.Clip, [shop.Clip.objects.create(file="f", poster=f"p{number}") for number in range(3)]
    if kind == "text":
        names = ["", " a", "a ", 'q"\\%_', "é", "日本", "😀"]
        shop.Sheet.objects.bulk_create(shop.Sheet(name, file="f") for name in names)
        return shop.Sheet, [*shop.Sheet.objects.order_by("name")]
    if kind == "decimal":
        worth = ["-2.5", "0", "0.0001", "0.1", "10", "12345678.9012"]
        return shop.Coin, [shop.Coin.objects.create(worth=Decimal(text), file="f") for text in worth]
    if kind == "time":
        times = [WHEN.replace(microsecond=0), WHEN, WHEN + timedelta(microseconds=1), WHEN + timedelta(days=200)]
        return shop.Moment, [shop.Moment.objects.create(at=at, file="f") for at in times]
    if kind == "composite":
        if django.VERSION < (5, 2):
            pytest.skip("Django 5.2 is the first to have them")
        shop.Owner.objects.bulk_create(owners)
        keys = [(owner, WHEN + timedelta(microseconds=number)) for owner in owners for number in (0, 1)]
        return shop.Page, [shop.Page.objects.create(book=owner, at=at, scan="f") for owner, at in keys]
    big = [-(2**63), -1, 0, 7, 2**53 + 1, 2**63 - 1]
    return shop.Letter, [*shop.Letter.objects.bulk_create(shop.Letter(number, scan="f") for number in big)]


KINDS = ["integer", "uuid", "one to one", "child's table", "text", "decimal", "time", "composite"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_walk_goes_on_after_a_key_of_any_kind(kind: str) -> None:
    """Each row once and in order, forwards and backwards, with the cursor kept as JSON."""
    model, rows = made(kind)
    field = of(model)

    def keys(choices: Choices) -> list[Any]:
        return [key_of(model, text) for text in walk(model, choices)]

    assert keys(ALL) == [row.pk for row in rows]
    assert keys(Choices(newest_first=True)) == [row.pk for row in reversed(rows)]
    assert total(field, ALL) == len(rows)


def key_of(model: type[models.Model], text: str) -> Any:
    """The key that a row's text stands for, as a person or the admin would find the row."""
    found = model._meta.pk.to_python(text)
    return tuple(found) if isinstance(found, list) else found


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5)
KEYS: dict[type[models.Model], st.SearchStrategy[Any]] = {
    shop.Letter: NUMBERS,
    shop.Owner: st.uuids(),
    shop.Sheet: TEXT,
}


@pytest.mark.parametrize("model", KEYS, ids=lambda model: model.__name__)
def test_pages_of_any_size_give_every_row_once(model: type[models.Model]) -> None:
    """In the database's own order, or the other way round."""

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(keys=st.lists(KEYS[model], unique=True, max_size=12), limit=st.integers(1, 14), newest_first=st.booleans())
    def pages_are_right(keys: list[Any], limit: int, newest_first: bool) -> None:
        model._base_manager.all().delete()
        (name,) = of(model).names
        model._base_manager.bulk_create(model(key, **{name: f"{number}.jpg"}) for number, key in enumerate(keys))
        ordered = model._base_manager.order_by("-pk" if newest_first else "pk")
        expected = [Row(str(key), [(name, file)]) for key, file in ordered.values_list("pk", name)]
        assert len(expected) == len(keys)
        choices = Choices(newest_first=newest_first)
        assert [row for page in pages(model, choices, limit) for row in page] == expected

    pages_are_right()


def test_a_row_that_is_added_or_goes_meanwhile_moves_no_other() -> None:
    first, second, third = photos(title=["a", "b", "c"])
    walked = read(of(shop.Photo), ALL, None, 2)
    first.delete()
    second.delete()
    photos(title=["d"])
    assert read(of(shop.Photo), ALL, walked.cursor, 1).rows[0].text == str(third.pk)


def test_what_a_sample_leaves_out_is_walked_all_the_same() -> None:
    """A page may have no rows and yet not be the last; what is walked adds up to the total."""
    photos(title=["x"] * 60)
    choices, after, count, texts, empty = Choices(sample=10), None, 0, [], 0
    while True:
        walked = read(of(shop.Photo), choices, after, 5)
        count, after, empty = count + walked.count, walked.cursor, empty + (not walked.rows)
        texts += [row.text for row in walked.rows]
        if walked.done:
            break
    assert count == total(of(shop.Photo), choices) == 60
    assert empty > 1
    assert 0 < len(texts) < 30
    assert texts == walk(shop.Photo, choices, 60)
    assert {*texts} < {*walk(shop.Photo, Choices(sample=50), 60)} < {*walk(shop.Photo, Choices(sample=100), 60)}


def test_the_end_is_told_with_the_last_rows_or_after_them() -> None:
    """An empty model is walked at once, and the cursor stays where it was."""
    nothing = read(of(shop.Photo), ALL, None, 5)
    assert (list(nothing.rows), nothing.cursor, nothing.count, nothing.done) == ([], None, 0, True)
    last = photos(title=["a", "b"])[-1]
    assert read(of(shop.Photo), ALL, None, 3).done
    assert not read(of(shop.Photo), ALL, None, 2).done
    ended = read(of(shop.Photo), ALL, str(last.pk), 2)
    assert (ended.cursor, ended.count, ended.done) == (str(last.pk), 0, True)


def test_a_filter_leaves_other_models_alone_and_several_must_all_fit() -> None:
    old, right, late = photos(created=[WHEN - timedelta(days=9), WHEN, WHEN + timedelta(days=9)])
    shop.Letter.objects.create(scan="l")
    start = Filter("shop.Photo", "created__gte", "2026-03-01T00:00+00:00")
    end = Filter("shop.Photo", "created__lt", "2026-03-02T00:00+00:00")
    assert walk(shop.Photo, Choices(filters=[start])) == [str(right.pk), str(late.pk)]
    assert walk(shop.Photo, Choices(filters=[end])) == [str(old.pk), str(right.pk)]
    assert walk(shop.Photo, Choices(filters=[start, end])) == [str(right.pk)]
    assert total(of(shop.Photo), Choices(filters=[start, end])) == 1
    assert len(walk(shop.Letter, Choices(filters=[start, end]))) == 1


def test_a_row_that_fits_a_filter_several_times_is_walked_once() -> None:
    """Through relations to many: pages are full, and the total is that of rows."""
    tags = [shop.Tag.objects.create(name=f"tag {number}", rank=number) for number in range(4)]
    rows = photos(title=["a", "b", "c"])
    for row in rows[:2]:
        row.tags.set(tags)
    choices = Choices(filters=[Filter("shop.Photo", "tags__name__startswith", "tag")])
    assert walk(shop.Photo, choices, 1) == [str(row.pk) for row in rows[:2]]
    assert len(read(of(shop.Photo), choices, None, 2).rows) == 2
    assert walk(shop.Photo, Choices(filters=choices.filters, newest_first=True), 1) == [
        str(row.pk) for row in reversed(rows[:2])
    ]
    assert total(of(shop.Photo), choices) == 2


@pytest.mark.parametrize(
    ("kind", "lookup", "text"),
    [
        ("one to one", "owner__photo__startswith", "p"),
        ("child's table", "file", "f"),
        ("composite", "book__photo__in", "p,q"),
    ],
)
def test_a_filter_through_a_relation_finds_keys_of_any_kind(kind: str, lookup: str, text: str) -> None:
    """One of the model's other table too."""
    model, rows = made(kind)
    for newest_first in (False, True):
        choices = Choices(filters=[Filter(model._meta.label, lookup, text)], newest_first=newest_first)
        for limit in (1, 2, 10):
            assert len(walk(model, choices, limit)) == len(rows)
        assert total(of(model), choices) == len(rows)
        none = Choices(filters=[Filter(model._meta.label, lookup, "other")], newest_first=newest_first)
        assert walk(model, none, 2) == []
        assert total(of(model), none) == 0


@pytest.mark.parametrize(("page", "patience"), [(1, 1), (2, 3), (3, 2), (500, 20)])
def test_pages_in_which_no_row_fits_are_not_the_end(
    page: int, patience: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told, so that whoever calls hears of it in time and goes on from there."""
    monkeypatch.setattr(walking, "_JOINED_ROWS", page)
    monkeypatch.setattr(walking, "_JOINED_PAGES", patience)
    tag = shop.Tag.objects.create(name="a")
    rows = photos(title=["x"] * 13)
    for row in (rows[4], rows[5], rows[12]):
        row.tags.set([tag])
    choices, after, found, calls = Choices(filters=[Filter("shop.Photo", "tags", str(tag.pk))]), None, [], 0
    while True:
        walked = read(of(shop.Photo), choices, after, 5)
        assert len(walked.rows) == walked.count <= 5
        found += [row.text for row in walked.rows]
        after, calls = walked.cursor, calls + 1
        if walked.done:
            break
    assert found == [str(rows[number].pk) for number in (4, 5, 12)]
    assert calls >= 13 / (page * patience)


def test_several_filters_through_one_relation_mean_the_same_row_of_it() -> None:
    one, other = shop.Tag.objects.create(name="a", rank=1), shop.Tag.objects.create(name="b", rank=2)
    both, right = photos(title=["a", "b"])
    both.tags.set([one, other])
    right.tags.set([shop.Tag.objects.create(name="a", rank=2)])
    wanted = [Filter("shop.Photo", "tags__name", "a"), Filter("shop.Photo", "tags__rank", "2")]
    assert walk(shop.Photo, Choices(filters=wanted)) == [str(right.pk)]


def test_a_filter_that_the_model_no_longer_knows_is_told() -> None:
    gone = Choices(filters=[Filter("shop.Photo", "colour", "red")])
    with pytest.raises(NotCopied, match=r"shop\.Photo has no field 'colour'"):
        read(of(shop.Photo), gone, None, 1)
    with pytest.raises(NotCopied, match=r"shop\.Photo has no field 'colour'"):
        total(of(shop.Photo), gone)


def test_a_table_that_is_missing_is_the_databases_own_error() -> None:
    """So is a database that is down: who calls knows what to do about either."""
    with pytest.raises(DatabaseError, match="shop_legacy"), transaction.atomic():
        read(of(shop.Legacy), ALL, None, 1)


class ReadsElsewhere:
    """A router by which letters are read from a replica."""

    def db_for_read(self, model: type[models.Model], **hints: object) -> str | None:
        return "elsewhere" if model is shop.Letter else None


def test_rows_come_from_the_database_that_the_router_reads_from(tmp_path: Path) -> None:
    file = {**connections.settings["default"], "ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}
    connections.settings["elsewhere"] = {**file, "NAME": str(tmp_path / "elsewhere.sqlite3")}
    try:
        connections["elsewhere"].connect()  # by name: the tests' own guard knows only the databases of the settings
        connections["elsewhere"].cursor().execute("CREATE TABLE shop_letter (id integer PRIMARY KEY, scan text)")
        connections["elsewhere"].cursor().execute("INSERT INTO shop_letter VALUES (7, 'there.pdf')")
        shop.Letter.objects.create(scan="here.pdf")
        photos(title=["a"])
        with override_settings(DATABASE_ROUTERS=[ReadsElsewhere()]):
            assert list(read(of(shop.Letter), ALL, None, 5).rows) == [Row("7", [("scan", "there.pdf")])]
            assert total(of(shop.Letter), ALL) == 1
            assert len(walk(shop.Photo)) == 1
    finally:
        connections["elsewhere"].close()
        del connections["elsewhere"], connections.settings["elsewhere"]
