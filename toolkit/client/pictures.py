"""Images as the numbers that a model's input holds: decoded, turned, sized and laid out.

Pillow does the decoding and is imported at the first image.
"""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.client.shapes import wanted
from toolkit.client.tensors import DTYPES
from toolkit.client.transport import TensorMetadata
from toolkit.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    from PIL import Image

Resize = Literal["stretch", "crop", "pad"]
Layout = Literal["NCHW", "NHWC", "CHW", "HWC", "NHW"]

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}

# Pillow reads more, some of it by other programs (Ghostscript for EPS).
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000", "MPO")


@dataclass(frozen=True, slots=True)
class Look:
    """How an image becomes numbers; see ``media.Images`` for what each means."""

    resize: Resize = "stretch"
    size: tuple[int, int] | None = None
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    divide_by: float = 255.0
    layout: Layout | None = None


def to_array(sources: Sequence[object], spec: TensorMetadata, look: Look) -> NDArray[Any]:
    """Return ``sources`` as one array of the input's type and axes.

    Raises ``InvalidInputError`` naming the image, or the input that takes none;
    ``MissingDependencyError`` without Pillow.
    """
    layout = layout_of(spec, look.layout)
    dims = dict(zip(layout, spec.shape, strict=True))
    channels = dims.get("C", 1)
    if channels not in {-1, *_MODES}:
        raise InvalidInputError(
            f"input {spec.name!r} takes {wanted(spec)}: {channels} channels are no image,"
            " which has 1, 3 or 4"
        )
    if not sources:
        raise InvalidInputError(f"input {spec.name!r} got no images")
    if "N" not in layout and len(sources) > 1:
        raise InvalidInputError(
            f"input {spec.name!r} takes one image at a time, got {len(sources)}"
        )
    mode = _MODES[3 if channels == -1 else channels]
    height, width = (dims["H"], dims["W"])
    if look.size is not None:
        height, width = _checked_size(look.size, (height, width), spec)
    pictures: NDArray[np.uint8] | None = None
    names = [named(source, place) for place, source in enumerate(sources)]
    for place, source in enumerate(sources):
        picture = _pixels(source, names[place], mode, (height, width), look.resize)
        if pictures is None:
            pictures = np.empty((len(sources), *picture.shape), np.uint8)
        if picture.shape != pictures.shape[1:]:
            sizes = (
                f"{names[place]} is {_size(picture.shape)}, {names[0]} {_size(pictures[0].shape)}"
            )
            raise InvalidInputError(
                f"input {spec.name!r} takes any size, but one size in a request: {sizes}",
                hint="give Images(…, size=(height, width)), or one image at a time",
            )
        pictures[place] = picture
    assert pictures is not None
    numbers = _numbers(pictures, spec, look)
    axes = ["NHWC".index(letter) for letter in layout]
    spare = tuple(axis for axis in range(4) if axis not in axes)
    return np.ascontiguousarray(numbers.transpose(*axes, *spare).reshape(_kept(numbers, axes)))


def layout_of(spec: TensorMetadata, layout: Layout | None = None) -> Layout:
    """Return which axis of the input is which, by where the 1, 3 or 4 channels are.

    Raises ``InvalidInputError`` if it cannot be told.
    """
    shape = spec.shape
    if layout is not None:
        if len(layout) != len(shape) or layout not in _LAYOUTS:
            raise InvalidInputError(
                f"layout {layout!r} does not fit input {spec.name!r}, {wanted(spec)}",
                hint=f"layouts are {', '.join(_LAYOUTS)}",
            )
        return layout
    fits = [name for name, is_it in _LAYOUTS.items() if len(name) == len(shape) and is_it(shape)]
    if len(fits) == 1:
        found: Layout = fits[0]
        return found
    reason = "its layout cannot be told" if len(shape) in {3, 4} else "it takes no images"
    raise InvalidInputError(
        f"input {spec.name!r} is {wanted(spec)}: {reason}",
        hint="give Images(…, layout='NCHW') or 'NHWC'" if len(shape) in {3, 4} else None,
    )


def named(source: object, place: int) -> str:
    """Return what messages call a source."""
    path = getattr(source, "path", source)
    if isinstance(path, (str, os.PathLike)):
        return os.fspath(path) if isinstance(path, str) else str(path)
    name = getattr(source, "name", None) or getattr(source, "filename", None)
    return name if isinstance(name, str) and name else f"image {place}"


def _is_nchw(shape: Sequence[int]) -> bool:
    return shape[1] in _MODES and shape[3] not in _MODES


def _is_nhwc(shape: Sequence[int]) -> bool:
    return shape[3] in _MODES and shape[1] not in _MODES


def _is_chw(shape: Sequence[int]) -> bool:
    return shape[0] in _MODES and shape[2] not in _MODES and (shape[1] > 0) == (shape[2] > 0)


def _is_hwc(shape: Sequence[int]) -> bool:
    # (-1, 28, 3) is more often a batch of series than images of any height.
    return shape[2] in _MODES and shape[0] not in _MODES and (shape[0] > 0) == (shape[1] > 0)


def _is_nhw(shape: Sequence[int]) -> bool:
    return shape[0] not in _MODES and shape[1] > max(_MODES) and shape[2] > max(_MODES)


_LAYOUTS: Mapping[Layout, Any] = {
    "NCHW": _is_nchw,
    "NHWC": _is_nhwc,
    "CHW": _is_chw,
    "HWC": _is_hwc,
    "NHW": _is_nhw,
}


def _kept(numbers: NDArray[Any], axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(numbers.shape[axis] for axis in axes)


def _checked_size(
    size: tuple[int, int], dims: tuple[int, int], spec: TensorMetadata
) -> tuple[int, int]:
    height, width = size
    if min(size) < 1 or any(dim not in {-1, own} for dim, own in zip(dims, size, strict=True)):
        raise InvalidInputError(
            f"size ({height}, {width}) does not fit input {spec.name!r}, {wanted(spec)}",
            hint="size is (height, width), for a model that takes any",
        )
    return size


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]}x{shape[1]}"


def _pixels(
    source: object, name: str, mode: str, size: tuple[int, int], resize: Resize
) -> NDArray[np.uint8]:
    """Return one image as (height, width, channels)."""
    with _opened(source, name) as image, _decoding(name):
        from PIL import ImageOps

        upright = ImageOps.exif_transpose(image)
        if upright.mode == "P" and "transparency" in upright.info:
            upright = upright.convert("RGBA")
        if upright.mode.startswith(("I", "F")):
            raise InvalidInputError(
                f"{name} has more than 8 bits a value (Pillow calls it {upright.mode})",
                hint="give the tensor itself, or an image of 8 bits",
            )
        fitted = _resized(upright.convert(mode), size, resize)
        pixels = np.asarray(fitted, dtype=np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]  # noqa: PLR2004


def _resized(image: "Image.Image", size: tuple[int, int], resize: Resize) -> "Image.Image":
    from PIL import Image, ImageOps

    height, width = size
    if height == -1 and width == -1:
        return image
    if -1 in size:  # the free side follows the fixed one
        height = max(1, round(image.height * width / image.width)) if height == -1 else height
        width = max(1, round(image.width * height / image.height)) if width == -1 else width
    if image.size == (width, height):
        return image
    if resize == "crop":
        return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    if resize == "pad":
        return ImageOps.pad(image, (width, height), Image.Resampling.BILINEAR)
    return image.resize((width, height), Image.Resampling.BILINEAR)


@contextmanager
def _opened(source: object, name: str) -> Iterator["Image.Image"]:
    """Open an image far enough to know its size, and refuse one that would fill the memory."""
    kind = _pillow().Image
    path = getattr(source, "path", source)
    if isinstance(source, kind):
        yield source
    elif isinstance(source, np.ndarray):
        yield _of_array(source, name)
    elif isinstance(path, (str, os.PathLike)):
        with reading(name):
            file = Path(path).open("rb")  # noqa: SIM115  closed below, errors of others kept out
        with file:
            yield _decoded(file, name)
    else:
        with reading(name):
            data = read_all(source) if hasattr(source, "read") else source
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise InvalidInputError(
                f"{name} is a {type(source).__name__}, not an image",
                hint="give a path, bytes, a binary file, a PIL image or an array",
            )
        yield _decoded(io.BytesIO(data), name)


def read_all(file: Any) -> object:
    """Return what is in an open file, and leave it where it was, to be read once more.

    Rows are read again if one among them does not fit, or their model was changed.
    """
    try:
        place = file.tell() if file.seekable() else None
    except (AttributeError, OSError):
        place = None
    data: object = file.read()
    if place is not None:
        file.seek(place)
    return data


def _decoded(file: IO[bytes], name: str) -> "Image.Image":
    module = _pillow()
    with _decoding(name):
        formats = [one for one in _FORMATS if one in module.OPEN]
        image: Image.Image = module.open(file, formats=formats)
    pixels, most = image.width * image.height, module.MAX_IMAGE_PIXELS
    if most is not None and pixels > most:
        raise _too_large(name, f"{image.height}x{image.width} pixels, over {most}")
    return image


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        if error.name != "PIL":
            raise
        raise MissingDependencyError(
            "reading images needs Pillow", hint="pip install 'triton-companion[images]'"
        ) from error
    Image.init()
    return Image


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what goes wrong in reading a file into ``InvalidInputError``."""
    try:
        yield
    except FileNotFoundError as error:
        raise InvalidInputError(f"{name} does not exist") from error
    except OSError as error:
        raise InvalidInputError(f"{name} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a closed file, a path with a zero byte
        raise InvalidInputError(f"{name} cannot be read: {error}") from error


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except InvalidInputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, "more pixels than Pillow allows") from error
    except UnidentifiedImageError as error:
        raise InvalidInputError(
            f"{name} is not an image that can be read",
            hint=f"formats read are {', '.join(_FORMATS)}",
        ) from error
    except Exception as error:  # a broken file ends Pillow's decoders in any class of error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInputError(f"{name} is a broken image: {reason}") from error


def _too_large(name: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"{name} is too large to decode: {why}",
        hint="if it may be trusted, raise PIL.Image.MAX_IMAGE_PIXELS",
    )


def _of_array(array: NDArray[Any], name: str) -> "Image.Image":
    from PIL import Image

    flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array  # noqa: PLR2004
    shaped = flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] in {3, 4})  # noqa: PLR2004
    if array.dtype != np.uint8 or not shaped or not array.size:
        first = array.ndim == 3 and array.shape[0] in _MODES  # noqa: PLR2004
        raise InvalidInputError(
            f"{name} is an array of {array.dtype} and shape {list(array.shape)}; an image is"
            " uint8 of (height, width) or (height, width, 1, 3 or 4)",
            hint="the channels come first: give array.transpose(1, 2, 0)"
            if first
            else "a tensor of the model's own type and shape needs no Images(…)",
        )
    return Image.fromarray(np.ascontiguousarray(flat))


def _numbers(pictures: NDArray[np.uint8], spec: TensorMetadata, look: Look) -> NDArray[Any]:
    """Return pixels in the input's type: floats divided and normalised, integers as they are."""
    target = DTYPES.get(spec.datatype)
    if target is None or target.kind not in "iuf" or target == np.int8:
        raise InvalidInputError(f"input {spec.name!r} takes {wanted(spec)}, which holds no image")
    if target.kind != "f":
        if look.mean is not None or look.std is not None:
            raise InvalidInputError(
                f"mean and std are for numbers with a point: {spec.name!r} takes {spec.datatype}"
            )
        return pictures.astype(target, copy=False)
    working = np.dtype(np.float64 if target.itemsize == 8 else np.float32)  # noqa: PLR2004
    numbers = pictures.astype(working) / working.type(look.divide_by)
    channels = pictures.shape[3]
    if look.mean is not None:
        numbers -= _per_channel(look.mean, "mean", channels, working)
    if look.std is not None:
        numbers /= _per_channel(look.std, "std", channels, working)
    return numbers.astype(target, copy=False)


def _per_channel(
    given: float | Sequence[float], what: str, channels: int, working: np.dtype[Any]
) -> NDArray[Any]:
    values = np.asarray(given, dtype=working)
    if values.shape not in {(), (1,), (channels,)} or not np.isfinite(values).all():
        raise InvalidInputError(
            f"{what} is one number or one for each of {channels} channels, got {given!r}"
        )
    if what == "std" and (values <= 0).any():
        raise InvalidInputError(f"std must be above 0, got {given!r}")
    return values
