"""Whether a target that is named as this node's own media root is it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from replicator import local
from replicator.errors import DeliveryError
from replicator.storage.reading import target_file
from replicator.storage.replicated import ReplicatedStorage, replicated_storages
from replicator.targets import get_target


def mistakes(alias: str) -> Iterator[str]:
    """What is wrong, in words, with the target *alias*, whose option ``node`` is this node: for each storage that
    uses it, a file is put into its folder, looked for at the target, and removed."""
    for storage in replicated_storages():
        if alias in storage.targets and (reason := _mistake(alias, storage)):
            yield f"it is not the media root of the storage {storage.alias!r}: {reason}"


def _mistake(alias: str, storage: ReplicatedStorage) -> str:
    name, data = f"{local.ASKING}{uuid4().hex}", uuid4().bytes
    place = Path(storage.path(name))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        if storage.file_permissions_mode is not None:
            place.chmod(storage.file_permissions_mode)
        with get_target(alias).open(target_file(storage, name)) as reader:
            if reader.read(len(data) + 1) != data:
                return f"a file that was just put into {storage.location} has other bytes there"
    except FileNotFoundError:
        return f"a file that was just put into {storage.location} is not there"
    except OSError as error:
        return f"no file can be put into {storage.location}: {error.strerror}"
    except DeliveryError as error:
        return f"a file that was just put into {storage.location} can't be read there: {error}"
    finally:
        with suppress(OSError):
            place.unlink()
    return ""
