"""Images, texts and folders of either, as rows for a model.

A ``pathlib.Path``, a PIL image or an open file can be given to ``predict`` as it is;
``Images`` and ``Texts`` say how to read it. A plain ``str`` is never taken for a path,
except in ``Images``.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.client.frames import columns_of
from toolkit.client.pictures import Layout, Look, Resize, named, read_all, reading, to_array
from toolkit.client.shapes import wanted
from toolkit.client.transport import TensorMetadata
from toolkit.errors import InvalidInputError

Kind = Literal["image", "text"]

_SUFFIXES: Mapping[str, Kind] = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff"), "image"),
    **dict.fromkeys((".webp", ".ppm", ".pgm", ".pbm", ".avif", ".jp2"), "image"),
    **dict.fromkeys((".txt", ".text", ".md", ".rst", ".html", ".htm"), "text"),
}


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a folder; ``kind`` is what its suffix says, None for any other."""

    path: Path
    kind: Kind | None


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Images for a model's image input: paths, bytes, binary files, PIL images or arrays.

    ``sources`` is one of these, several, or a folder; arrays are ``uint8`` of (height,
    width) or (height, width, channels). ``resize`` says how an image gets the model's
    size, with bilinear sampling: ``stretch`` it, ``crop`` what is too much on either side,
    or ``pad`` with black. ``size`` is (height, width) for a model that takes any.

    Floating point inputs get each value divided by ``divide_by`` (0 to 1), less ``mean``,
    by ``std``: a number each, or one for each channel. Integer inputs get 0 to 255.
    ``layout`` names the axes of an input where its shape does not show them. The files of
    a folder are listed here, and read when they are asked about.
    """

    sources: Any
    resize: Resize = "stretch"
    size: tuple[int, int] | None = None
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    divide_by: float = 255.0
    layout: Layout | None = None

    def __post_init__(self) -> None:
        if self.resize not in {"stretch", "crop", "pad"}:
            raise InvalidInputError(f"resize is stretch, crop or pad, not {self.resize!r}")
        if not self.divide_by > 0:
            raise InvalidInputError(f"divide_by must be above 0, got {self.divide_by!r}")
        object.__setattr__(self, "sources", _each(self.sources, "image"))

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> "Iterator[Images]":
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int | slice) -> "Images":
        return replace(self, sources=self.sources[place])


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Texts for a model's text input: strings as they are, UTF-8 bytes, paths or open files.

    ``sources`` is one of these, several, or a folder. A byte order mark is dropped.
    """

    sources: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", _each(self.sources, "text"))

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> "Iterator[Texts]":
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int | slice) -> "Texts":
        return replace(self, sources=self.sources[place])


def images(sources: object, spec: TensorMetadata) -> NDArray[Any]:
    """Return ``sources``, or an ``Images``, as an array for the input ``spec``.

    Raises ``InvalidInputError`` naming the image that cannot be read.
    """
    given = sources if isinstance(sources, Images) else Images(sources)
    look = Look(given.resize, given.size, given.mean, given.std, given.divide_by, given.layout)
    return to_array(given.sources, spec, look)


def texts(sources: object, spec: TensorMetadata) -> NDArray[Any]:
    """Return ``sources``, or a ``Texts``, as an array of objects for the input ``spec``.

    Raises ``InvalidInputError`` naming the file and the byte that is not UTF-8.
    """
    given = (sources if isinstance(sources, Texts) else Texts(sources)).sources
    if spec.datatype != "BYTES" or any(dim not in {-1, 1} for dim in spec.shape[1:]):
        raise InvalidInputError(f"input {spec.name!r} takes {wanted(spec)}, not a text a row")
    array = np.empty(len(given), dtype=object)
    array[:] = [_text(source, place) for place, source in enumerate(given)]
    return array.reshape(-1, *[1] * (len(spec.shape) - 1))


def folder(
    path: str | os.PathLike[str],
    pattern: str | None = None,
    *,
    recursive: bool = False,
    kind: Kind | None = None,
) -> Iterator[Item]:
    """Return the images and texts of a folder one by one, in the order of their names.

    ``pattern`` such as ``*.jpg`` takes any file that it fits; without one, suffixes tell.
    ``kind`` takes only those. Hidden files are left out; folders inside are entered if
    ``recursive``, but no links to folders. No file is opened.

    Raises ``InvalidInputError``, at once, for no folder and for one with no such file.
    """
    top = Path(path)
    if not top.is_dir():
        what = "is not a folder" if top.exists() else "does not exist"
        raise InvalidInputError(f"{top} {what}")
    items = _items(top, pattern, kind, recursive=recursive)
    first = next(items, None)
    if first is None:
        raise InvalidInputError(_nothing(top, pattern, kind), hint=_deeper(recursive=recursive))
    return chain((first,), items)


def gathered(given: object) -> object:
    """Return rows that come one by one, such as those of ``folder``, as a list; others as is."""
    return list(given) if isinstance(given, Iterator) and not _is_file(given) else given


def to_rows(given: object, inputs: Sequence[TensorMetadata]) -> object:
    """Return images, texts and files as tensors by the name of the input; other rows as they are.

    What a ``Path``, an ``Item``, an open file or bytes hold is told by the input: an image
    for a numeric one of three or more axes, a text for one of text. A dict may hold them
    for each input. Raises ``InvalidInputError`` for a file that no input takes.
    """
    if isinstance(given, np.ndarray):
        return given
    columns = _columns(given, inputs)
    if columns is not None:
        specs = {spec.name: spec for spec in inputs}
        found = {
            name: _read(value, specs[name])
            for name, value in columns.items()
            if name in specs and _is_media(value, [specs[name]])
        }
        return {**columns, **found} if found else given
    if not _is_media(given, inputs):
        return given
    spec = _taker(given, inputs)
    return {spec.name: _read(given, spec)}


def _columns(given: object, inputs: Sequence[TensorMetadata]) -> Mapping[str, object] | None:
    """Return a dict of columns as it is, and dicts of a row each as columns if they hold media."""
    if isinstance(given, Mapping):
        return given
    row = given[0] if isinstance(given, (list, tuple)) and given else None
    if isinstance(row, Mapping) and any(_is_media(value, inputs) for value in row.values()):
        return columns_of(given)
    return None


def _takes(spec: TensorMetadata) -> Kind | None:
    if spec.datatype == "BYTES":
        return "text"
    return "image" if len(spec.shape) >= 3 else None  # noqa: PLR2004  height, width, and one more


def _is_media(given: object, inputs: Sequence[TensorMetadata]) -> bool:
    first = _first(given)
    if isinstance(first, (Images, Texts)):
        return True
    if isinstance(first, (bytes, bytearray)):  # to an input of text they are one
        return all(_takes(spec) == "image" for spec in inputs)
    return isinstance(first, (Path, Item)) or _is_picture(first) or _is_file(first)


def _first(given: object) -> object:
    return given[0] if isinstance(given, (list, tuple)) and given else given


def _is_picture(given: object) -> bool:
    kind = getattr(sys.modules.get("PIL.Image"), "Image", None)
    return kind is not None and isinstance(given, kind)


def _is_file(given: object) -> bool:
    # A DataFrame has whatever its columns are called.
    return callable(getattr(given, "read", None))


def _kind_of(given: object) -> Kind | None:
    """Return what it must be, whatever the model takes."""
    first = _first(given)
    if isinstance(first, Texts):
        return "text"
    return "image" if isinstance(first, Images) or _is_picture(first) else None


def _taker(given: object, inputs: Sequence[TensorMetadata]) -> TensorMetadata:
    """Return the one input that takes what was given."""
    kind = _kind_of(given)
    fits = [spec for spec in inputs if _takes(spec) is not None and kind in {None, _takes(spec)}]
    if len(fits) == 1:
        return fits[0]
    listed = ", ".join(f"{spec.name} {wanted(spec)}" for spec in inputs)
    what = f"{kind}s" if kind else "files"
    if fits:
        raise InvalidInputError(
            f"more than one input takes {what}: {', '.join(spec.name for spec in fits)}",
            hint=f"give a dict: {{{fits[0].name!r}: …}}",
        )
    raise InvalidInputError(
        f"the model takes no {what}: {listed}",
        hint="read rows from a file with toolkit.samples.read_rows" if kind is None else None,
    )


def _read(given: object, spec: TensorMetadata) -> NDArray[Any]:
    if isinstance(given, (list, tuple)) and isinstance(_first(given), (Images, Texts)):
        parts = [_read(one, spec) for one in given]
        if len({part.shape[1:] for part in parts}) > 1:
            sizes = ", ".join(str(list(part.shape)) for part in parts[:10])
            raise InvalidInputError(f"input {spec.name!r} got images of several sizes: {sizes}")
        return np.concatenate(parts)
    if isinstance(given, Texts) or (not isinstance(given, Images) and _takes(spec) == "text"):
        return texts(given, spec)
    return images(given, spec)


def _each(sources: object, kind: Kind) -> list[object]:
    """Return the sources one by one, those of a folder in its place."""
    single = (str, bytes, bytearray, memoryview, os.PathLike, Item)
    rows = isinstance(sources, np.ndarray) and sources.ndim < 4 and kind == "image"  # noqa: PLR2004
    if isinstance(sources, single) or rows or _is_picture(sources) or _is_file(sources):
        listed: list[object] = [sources]
    elif isinstance(sources, Iterable) and not isinstance(sources, Mapping):
        listed = list(sources)
    else:
        raise InvalidInputError(f"a {type(sources).__name__} is no {kind}")
    if not listed:
        raise InvalidInputError(f"no {kind}s were given")
    each: list[object] = []
    for source in listed:
        paths = (str, os.PathLike) if kind == "image" else os.PathLike
        if isinstance(source, paths) and Path(source).is_dir():
            each.extend(folder(source, kind=kind))
        else:
            each.append(source)
    return each


def _text(source: object, place: int) -> bytes:
    name = f"text {place}"
    if isinstance(source, str):
        try:
            return source.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(f"{name} cannot be written as UTF-8") from error
    path = source.path if isinstance(source, Item) else source
    if isinstance(path, os.PathLike) or _is_file(path):
        name = named(path, place) if isinstance(path, os.PathLike) else name
        data = _contents(path, name)
    else:
        data = path
    if isinstance(data, str):
        return _text(data, place)
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidInputError(f"{name} is a {type(source).__name__}, not a text")
    data = bytes(data)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(name, error) from error
    return data.removeprefix(b"\xef\xbb\xbf")


def _contents(source: Any, name: str) -> object:
    with reading(name):
        try:
            if isinstance(source, os.PathLike):
                return Path(source).read_bytes()
            return read_all(source)
        except UnicodeDecodeError as error:  # a file opened as text
            raise _not_utf8(name, error) from error


def _not_utf8(name: str, error: UnicodeDecodeError) -> InvalidInputError:
    return InvalidInputError(
        f"{name} is not UTF-8 text: {error.reason} at byte {error.start}"
        f" (0x{error.object[error.start]:02x})",
        hint="save it as UTF-8, or give path.read_bytes() to send its bytes as they are",
    )


def _items(top: Path, pattern: str | None, kind: Kind | None, *, recursive: bool) -> Iterator[Item]:
    with reading(str(top)), os.scandir(top) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = top / entry.name
        if recursive and entry.is_dir(follow_symlinks=False):
            yield from _items(path, pattern, kind, recursive=True)
            continue
        with reading(str(path)):
            is_file = path.is_file()
        if is_file:
            told = _SUFFIXES.get(path.suffix.lower())
            fits = path.match(pattern) if pattern else told is not None
            if fits and kind in {None, told}:
                yield Item(path, told)


def _nothing(top: Path, pattern: str | None, kind: Kind | None) -> str:
    if not any(top.iterdir()):
        return f"{top} is an empty folder"
    what = f"{kind}s" if kind else "images or texts"
    return f"{top} holds no file {pattern!r}" if pattern else f"{top} holds no {what}"


def _deeper(*, recursive: bool) -> str | None:
    return None if recursive else "recursive=True also takes the folders in it"
