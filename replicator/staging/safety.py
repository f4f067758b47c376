"""The check that what a copy writes to is apart from what it reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, Storage, storages

from replicator.errors import Refused
from replicator.staging.base import Destination, NotCopied, Source
from replicator.staging.destinations import label_of
from replicator.staging.placedestination import PlaceDestination
from replicator.staging.places import normal, of_url
from replicator.staging.replicateddestination import ReplicatedDestination
from replicator.storage.reading import target_file
from replicator.storage.replicated import ReplicatedStorage
from replicator.targets import get_target
from replicator.targets.django_storage import StorageTarget
from replicator.targets.storageaddresses import address_of
from replicator.targets.storageentries import is_s3


def check_apart(source: Source, destinations: Iterable[Destination]) -> None:
    """Raises ``NotCopied`` if a destination, or a target of one that replicates, is the same place as *source*, or
    one of the two is inside the other. By what the settings say: no network."""
    # One that nobody has made a link to.
    name = f"replicator-{uuid4().hex}"
    read = {each.removesuffix(name) for each in normal(source.address(name))}
    for destination in destinations:
        for what, cure, address in _places(destination, name):
            written = address.removesuffix(name)
            if any(_meet(one, written) for one in read):
                raise NotCopied(
                    f"The source STORAGES[{source.alias!r}] and {what} are one place, or one is inside the other "
                    f"({min(read)}… and {written}…): a copy would write over the live site's files. {cure}"
                )


def _meet(one: str, other: str) -> bool:
    """Whether a name in one folder can be a name in the other."""
    outer, inner = sorted((one, other), key=len)
    # MogileFS keeps what is outside of its root with a slash before: no name begins with one.
    return inner.startswith(outer) and not inner.removeprefix(outer).startswith("/")


def _places(destination: Destination, name: str) -> Iterator[tuple[str, str, str]]:
    """Where *name* would be written, or is shown after that: what it is, what to do if it must not be that, and the
    address."""
    if isinstance(destination, ReplicatedDestination):
        storage = destination.storage
        yield from _of_storage(storage, name)
        for alias in storage.targets:
            yield from _of_target(alias, storage, name)
    elif isinstance(destination, PlaceDestination):
        yield from _of_storage(destination.storage, name)


def _of_storage(storage: Storage, name: str) -> Iterator[tuple[str, str, str]]:
    label = label_of(storage)
    cure = f'Give {label} of this site a place of its own, or name the live one in REPLICATOR["STAGING"]["SOURCE"].'
    for address in normal(address_of(storage, name)):
        yield f"the destination {label}", cure, address
    for address in of_url(_url(storage), name):
        yield f"what {label} shows", cure, address


def _url(storage: Any) -> str:
    """Below which browsers find its files, as far as that is written in the settings; empty if it is not."""
    if isinstance(storage, FileSystemStorage):
        return storage.base_url or ""
    domain = is_s3(storage) and storage.custom_domain
    return f"//{domain}/{storage.location}" if domain else ""


def _of_target(alias: str, storage: ReplicatedStorage, name: str) -> Iterator[tuple[str, str, str]]:
    what = f"the target {alias!r} of the destination {label_of(storage)}"
    cure = f'Give REPLICATOR["TARGETS"][{alias!r}] of this site a place that no live site has.'
    try:
        target = get_target(alias)
        addresses = target.addresses(target_file(storage, name))
        shown = target.public_url_of(target_file(storage, name))
    except ImproperlyConfigured as error:
        raise NotCopied(f"Where {what} keeps files can't be told: {error}") from None
    except Refused:
        # It takes no files of this storage.
        return
    if isinstance(target, StorageTarget):
        # By what it is made of, since the source has another alias.
        addresses = {*addresses, address_of(storages[target.storage], target.name_of(target_file(storage, name)))}
    for each in addresses:
        for address in normal(each):
            yield what, cure, address
    for address in of_url(shown.removesuffix(name), name):
        yield what, cure, address
