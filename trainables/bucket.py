"""Objects of a bucket by their address, ``s3://bucket/key`` or ``gs://bucket/key``, for machines that share no disk.

Credentials, region and endpoint come from the environment, as for every other program (``AWS_ENDPOINT_URL``, say).
An object is there whole or not at all: the store makes it visible when its last byte has arrived.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMES = ("s3", "gs")

#: A file on this machine, or the address of an object.
Place = Path | str


def is_address(place: Place) -> bool:
    """Whether a place is an object's address, and not a file's path."""
    return isinstance(place, str) and place.partition("://")[0] in SCHEMES and "://" in place


def write_object(address: str, *parts: bytes | memoryview) -> None:
    """Put an object in place of the one before.

    Args:
        address: Where to.
        parts: Its bytes, one after another.

    Raises:
        OSError: If the store does not take it.
    """
    files, path = _resolve(address)
    # Handed over in one piece: a stream that is closed on its way through an error would leave the half of it.
    content = b"".join(parts)
    with files.open_output_stream(path) as stream:
        stream.write(content)


def read_object(address: str) -> bytes:
    """An object's content.

    Raises:
        FileNotFoundError: If there is no such object.
        OSError: If the store does not answer or does not give it.
    """
    from pyarrow import fs  # noqa: PLC0415

    files, path = _resolve(address)
    try:
        with files.open_input_file(path) as file:  # a stream would ask for a quarter of a megabyte at a time
            content: bytes = file.read(file.size())
    except FileNotFoundError as error:
        # The store answers alike where there is no such bucket.
        bucket = path.partition("/")[0]
        if files.get_file_info(bucket).type == fs.FileType.NotFound:
            raise OSError(f"there is no bucket {bucket!r}") from error
        raise
    return content


def remove_object(address: str) -> None:
    """Remove an object, which may be missing.

    Raises:
        OSError: If the store does not answer or does not let it go.
    """
    from pyarrow import fs  # noqa: PLC0415

    files, path = _resolve(address)
    if files.get_file_info(path).type != fs.FileType.NotFound:
        files.delete_file(path)


def list_objects(prefix: str) -> Iterator[str]:
    """The objects below an address, by what follows it and a slash; none if there is no such address.

    Raises:
        OSError: If the store does not answer.
    """
    from pyarrow import fs  # noqa: PLC0415

    files, path = _resolve(prefix)
    for found in files.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=True)):
        if found.is_file:
            yield found.path.removeprefix(f"{path}/")


def remove_objects(prefix: str) -> None:
    """Remove everything below an address.

    Raises:
        OSError: If the store does not answer or does not let them go.
    """
    from pyarrow import fs  # noqa: PLC0415

    files, path = _resolve(prefix)
    # Empty objects too, which stand for folders, and which removing an object leaves.
    if files.get_file_info(path).type != fs.FileType.NotFound:
        files.delete_dir(path)


def _resolve(address: str) -> tuple[Any, str]:
    """The store, and the object's path in it, which begins with the bucket."""
    scheme, _, path = address.partition("://")
    return _store(scheme, path.partition("/")[0]), path.rstrip("/")


@functools.cache
def _store(scheme: str, bucket: str) -> Any:
    from pyarrow import fs  # noqa: PLC0415 - a fifth of a second, paid where there is a bucket

    # One request for an object, not three.
    delayed = "?allow_delayed_open=true" if scheme == "s3" else ""
    store, _ = fs.FileSystem.from_uri(f"{scheme}://{bucket}{delayed}")
    return store
