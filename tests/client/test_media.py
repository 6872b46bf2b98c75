"""Images, texts and folders become the tensors of the model; what cannot be read is named."""

import io
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit.client import Client
from toolkit.client.media import (
    Images,
    Item,
    Texts,
    folder,
    gathered,
    images,
    texts,
    to_rows,
)
from toolkit.client.transport import TensorMetadata
from toolkit.deploy.state import Server
from toolkit.errors import InvalidInputError, MissingDependencyError


def takes(datatype: str, *shape: int, name: str = "x") -> TensorMetadata:
    return TensorMetadata(name, datatype, shape)


PHOTO = takes("UINT8", -1, 5, 6, 3)
TEXT = takes("BYTES", -1, 1)


def picture(height: int = 5, width: int = 6, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    picture().save(path)
    return path


@pytest.mark.parametrize(
    "form",
    [
        lambda path: path,
        lambda path: [path],
        lambda path: (Item(path, "image"),),
        lambda path: path.read_bytes(),
        lambda path: [bytearray(path.read_bytes())],
        Image.open,
        lambda path: io.BytesIO(path.read_bytes()),
        lambda path: Images(str(path)),
        lambda path: Images([str(path)]),
        lambda path: Images(iter([path])),
        lambda path: Images(np.asarray(Image.open(path))),
        lambda path: Images(np.asarray(Image.open(path))[np.newaxis]),
        lambda path: Images(memoryview(path.read_bytes())),
        lambda path: Images(path.parent),
        lambda path: path.parent,
        lambda path: gathered(folder(path.parent)),
        lambda path: {"x": path},
        lambda path: {"x": Images([path])},
    ],
)
def test_an_image_in_any_form_becomes_the_same_tensor(
    photo: Path, form: Callable[[Path], object]
) -> None:
    rows: Any = to_rows(form(photo), [PHOTO])

    assert list(rows) == ["x"]
    assert rows["x"].dtype == np.uint8
    np.testing.assert_array_equal(rows["x"], np.asarray(picture())[np.newaxis])


@pytest.mark.parametrize(
    "rows",
    [
        "photo.png",
        ["photo.png"],
        np.zeros((1, 5, 6, 3), np.uint8),
        [[1, 2]],
        {"x": [1, 2]},
        {"other": Path("photo.png")},
        None,
        [],
    ],
)
def test_what_is_no_image_stays_as_it_is(rows: object) -> None:
    assert to_rows(rows, [PHOTO]) is rows


def test_bytes_for_an_input_of_text_are_a_text_already() -> None:
    assert to_rows([b"a\0"], [TEXT]) == [b"a\0"]


def test_rows_that_come_one_by_one_are_gathered() -> None:
    assert gathered(row for row in ([1, 2], [3, 4])) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((-1, 5, 6, 3), lambda rgb: rgb[np.newaxis]),
        ((-1, 3, 5, 6), lambda rgb: rgb.transpose(2, 0, 1)[np.newaxis]),
        ((-1, 3, -1, -1), lambda rgb: rgb.transpose(2, 0, 1)[np.newaxis]),
        ((-1, -1, -1, 3), lambda rgb: rgb[np.newaxis]),
        ((3, 5, 6), lambda rgb: rgb.transpose(2, 0, 1)),
        ((4, 6, 3), None),
        ((-1, -1, 3), lambda rgb: rgb),
    ],
)
def test_the_axes_go_where_the_shape_of_the_input_has_them(
    shape: tuple[int, ...], expected: Callable[[Any], Any] | None
) -> None:
    spec = takes("UINT8", *shape)
    if expected is None:  # 4 could be channels, or 3
        with pytest.raises(InvalidInputError, match="its layout cannot be told") as caught:
            images(picture(), spec)
        assert caught.value.hint == "give Images(…, layout='NCHW') or 'NHWC'"
        given = images(Images(picture(4, 6), layout="HWC"), spec)
        np.testing.assert_array_equal(given, np.asarray(picture(4, 6)))
    else:
        np.testing.assert_array_equal(images(picture(), spec), expected(np.asarray(picture())))


@pytest.mark.parametrize(
    ("shape", "mode"),
    [((-1, 1, 8, 9), "L"), ((-1, 8, 9), "L"), ((-1, 4, 8, 9), "RGBA"), ((-1, 3, 8, 9), "RGB")],
)
def test_colours_are_converted_to_the_channels_of_the_input(
    shape: tuple[int, ...], mode: str
) -> None:
    image = picture(8, 9)
    wanted = np.asarray(image.convert(mode)).reshape(8, 9, -1).transpose(2, 0, 1)

    np.testing.assert_array_equal(images(image, takes("UINT8", *shape)).reshape(-1, 8, 9), wanted)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_an_image_of_any_colours_becomes_rgb(mode: str) -> None:
    image = picture().convert(mode)

    np.testing.assert_array_equal(images(image, PHOTO)[0], np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG"])
def test_files_of_the_usual_kinds_are_read(kind: str) -> None:
    data = encoded(picture(), kind)

    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(images(data, PHOTO)[0], wanted)


def test_a_palette_with_transparent_colours_keeps_its_colours() -> None:
    image = picture().convert("P")
    data = encoded(image, transparency=bytes(range(256)))

    np.testing.assert_array_equal(images(data, PHOTO)[0], np.asarray(image.convert("RGB")))


def test_a_photo_is_turned_as_its_camera_was_held() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees to the right
    data = encoded(picture(6, 5), exif=exif)

    turned = np.rot90(np.asarray(picture(6, 5)), k=-1)
    np.testing.assert_array_equal(images(data, PHOTO)[0], turned)


def test_floats_are_divided_and_normalised_by_channel() -> None:
    spec, pixels = takes("FP32", -1, 3, 5, 6), np.asarray(picture()).transpose(2, 0, 1)[np.newaxis]
    scaled = pixels.astype(np.float32) / np.float32(255)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    np.testing.assert_array_equal(images(picture(), spec), scaled)
    normalised = images(Images(picture(), mean=mean, std=std), spec)
    assert normalised.dtype == np.float32
    by_channel = [np.reshape(one, (1, 3, 1, 1)) for one in (mean, std)]
    np.testing.assert_allclose(normalised, (scaled - by_channel[0]) / by_channel[1], rtol=1e-5)
    np.testing.assert_array_equal(images(Images(picture(), divide_by=1), spec), pixels)
    halves = images(picture(), takes("FP16", -1, 3, 5, 6))
    np.testing.assert_array_equal(halves, scaled.astype(np.float16))


def test_integers_hold_the_pixels_as_they_are() -> None:
    given = images(picture(), takes("INT32", -1, 5, 6, 3))

    assert given.dtype == np.int32
    np.testing.assert_array_equal(given[0], np.asarray(picture()))


def test_an_image_is_stretched_cropped_or_padded_to_the_size_of_the_model() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200  # the middle third is bright
    spec = takes("UINT8", -1, 10, 10, 3)

    stretched = images(Images(wide), spec)[0, :, :, 0]
    cropped = images(Images(wide, resize="crop"), spec)[0, :, :, 0]
    padded = images(Images(wide, resize="pad"), spec)[0, :, :, 0]

    assert stretched[5, 5] == 200
    assert stretched[0, 0] == stretched[9, 9] == 0
    assert (cropped == 200).all()
    assert padded[5, 5] == 200
    assert (padded[:3] == 0).all()
    assert (padded[-3:] == 0).all()
    reference = Image.fromarray(wide).resize((10, 10), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(stretched, np.asarray(reference)[:, :, 0])


def test_a_model_of_any_size_gets_images_of_one_size_each_time() -> None:
    spec = takes("UINT8", -1, -1, -1, 3)
    sizes = [picture(), picture(5, 7)]

    assert images(sizes[1], spec).shape == (1, 5, 7, 3)
    with pytest.raises(InvalidInputError, match="image 1 is 5x7, image 0 5x6") as caught:
        images(sizes, spec)
    assert caught.value.hint == "give Images(…, size=(height, width)), or one image at a time"
    assert images(Images(sizes, size=(8, 9)), spec).shape == (2, 8, 9, 3)
    assert images(picture(4, 8), takes("UINT8", -1, 3, 2, -1)).shape == (1, 3, 2, 4)


def test_a_model_without_an_axis_of_rows_takes_one_image() -> None:
    assert images([picture()], takes("UINT8", 3, 5, 6)).shape == (3, 5, 6)
    with pytest.raises(InvalidInputError, match="takes one image at a time, got 2"):
        images([picture(), picture()], takes("UINT8", 3, 5, 6))


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "image 0 is not an image that can be read"),
        (b"no image at all", "image 0 is not an image that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image that can be read"),
        (_cut(encoded(picture(50, 50))), "image 0 is a broken image"),
        (_cut(encoded(picture(50, 50), "JPEG")), "image 0 is a broken image"),
        (Path("/nowhere/photo.png"), "/nowhere/photo.png does not exist"),
        (Path("a\0b"), "cannot be read"),
        (io.StringIO("text"), "image 0 is a StringIO, not an image"),
        ([picture(), 3], "image 1 is a int, not an image"),
        ([picture(), "missing.png"], "missing.png does not exist"),
        ([], "no images were given"),
        (np.zeros((4, 6, 3)), "image 0 is an array of float64 and shape [4, 6, 3]"),
        (np.zeros((3, 40, 60), np.uint8), "is an array of uint8 and shape [3, 40, 60]"),
        (np.zeros((4, 6), np.uint16), "is an array of uint16 and shape [4, 6]"),
        (Image.fromarray(np.zeros((4, 6), np.uint16)), "more than 8 bits a value (Pillow calls it"),
        (Image.fromarray(np.zeros((4, 6), np.float32)), "more than 8 bits a value"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(source: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        images(Images(source), PHOTO)


def test_any_damage_to_a_file_ends_in_the_typed_error() -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        whole = encoded(picture(20, 20), kind)
        for _ in range(60):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), rng.integers(1, 20)):
                data[place] = rng.integers(0, 256)
            try:
                assert images(bytes(data), PHOTO).shape == (1, 5, 6, 3)
            except InvalidInputError:
                refused += 1
    assert refused > 50


@pytest.mark.parametrize(("most", "strict"), [(100, False), (200, False), (200, True)])
def test_an_image_that_would_fill_the_memory_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch, most: int, strict: bool
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    data = encoded(picture(16, 16))

    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore")
        with pytest.raises(InvalidInputError, match="image 0 is too large to decode"):
            images(data, PHOTO)


def test_without_pillow_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, photo: Path
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)

    with pytest.raises(MissingDependencyError, match="reading images needs Pillow") as caught:
        to_rows(photo, [PHOTO])
    assert caught.value.hint == "pip install 'triton-companion[images]'"


@pytest.mark.parametrize(
    ("given", "inputs", "message"),
    [
        (Path("a.csv"), [takes("FP32", -1, 4)], "the model takes no files: x FP32 of shape"),
        (Images("a.png"), [takes("FP32", -1, 4)], "the model takes no images: x FP32 of shape"),
        (Texts("a"), [PHOTO], "the model takes no texts: x UINT8 of shape"),
        (picture(), [TEXT], "the model takes no images"),
        (Images("a"), [PHOTO, takes("UINT8", -1, 3, 8, 8, name="y")], "more than one input takes"),
        ({"x": picture()}, [TEXT], "text 0 is a Image, not a text"),
        ({"x": Images(picture())}, [takes("FP32", -1, 4)], "it takes no images"),
        ({"x": Texts("a")}, [takes("FP32", -1, 4)], "input 'x' takes FP32 of shape [-1, 4], not a"),
        (picture(), [takes("FP32", -1, 5, 8, 8)], "its layout cannot be told"),
        (picture(), [takes("FP32", -1, 3, 8, 8, 8)], "it takes no images"),
        (picture(), [takes("FP32", -1, -1, -1, -1)], "its layout cannot be told"),
        (picture(), [takes("BOOL", -1, 3, 8, 8)], "which holds no image"),
        (picture(), [takes("INT8", -1, 3, 8, 8)], "which holds no image"),
        (Images(picture(), mean=0.5), [PHOTO], "mean and std are for numbers with a point"),
        (Images(picture(), size=(5, 5)), [PHOTO], "size (5, 5) does not fit input 'x'"),
        (
            Images(picture(), layout="NCHW"),
            [takes("UINT8", -1, 8, 8)],
            "layout 'NCHW' does not fit",
        ),
        (
            Images(picture(), mean=[1, 2]),
            [takes("FP32", -1, 3, 8, 8)],
            "one for each of 3 channels",
        ),
        (Images(picture(), std=0), [takes("FP32", -1, 3, 8, 8)], "std must be above 0"),
    ],
)
def test_what_the_model_does_not_take_is_refused(
    given: object, inputs: list[TensorMetadata], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        to_rows(given, inputs)


def test_options_that_make_no_sense_are_refused_at_once() -> None:
    with pytest.raises(InvalidInputError, match="resize is stretch, crop or pad, not 'shrink'"):
        Images("a", resize="shrink")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="divide_by must be above 0"):
        Images("a", divide_by=0)


def test_an_image_and_a_text_go_to_the_inputs_that_take_them(photo: Path) -> None:
    inputs = [PHOTO, takes("BYTES", -1, 1, name="question"), takes("FP32", -1, 1, name="heat")]

    rows: Any = to_rows({"x": [photo], "question": ["how many?"], "heat": [0.5]}, inputs)
    alone: Any = to_rows(Images(photo), inputs)

    assert rows["x"].shape == (1, 5, 6, 3)
    assert rows["question"] == ["how many?"]
    assert rows["heat"] == [0.5]
    assert list(alone) == ["x"]


def test_texts_come_from_strings_bytes_and_files(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"\xef\xbb\xbfGr\xc3\xbc\xc3\x9fe\r\n")
    expected = [[b"a\0"], [b"b"], ["Grüße\r\n".encode()], ["Grüße\r\n".encode()], [b"open"]]

    given = ["a\0", b"b", path, Item(path, "text"), io.StringIO("open")]

    assert texts(given, TEXT).tolist() == expected
    assert texts(Texts("not a path"), takes("BYTES", -1)).tolist() == [b"not a path"]
    rows: Any = to_rows(path, [TEXT])
    assert rows["x"].tolist() == [["Grüße\r\n".encode()]]
    assert texts(tmp_path, TEXT).tolist() == [["Grüße\r\n".encode()]]


def test_text_that_is_not_utf_8_is_named_with_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "old.txt"
    path.write_bytes(b"caf\xe9 noir")
    message = "old.txt is not UTF-8 text: invalid continuation byte at byte 3 (0xe9)"

    with pytest.raises(InvalidInputError, match=re.escape(message)) as caught:
        to_rows([path], [TEXT])
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("save it as UTF-8")
    with pytest.raises(InvalidInputError, match=re.escape("text 1 is not UTF-8 text")):
        texts(["a", b"\xff"], TEXT)
    with path.open(encoding="utf-8") as file, pytest.raises(InvalidInputError, match="byte 3"):
        texts(file, TEXT)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["a", 3], "text 1 is a int, not a text"),
        (["\ud800"], "text 0 cannot be written as UTF-8"),
        ([Path("/nowhere/a.txt")], "/nowhere/a.txt does not exist"),
        ([], "no texts were given"),
        (3, "a int is no text"),
    ],
)
def test_a_text_that_cannot_be_read_is_named(source: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        texts(source, TEXT)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    for name in ("b.png", "a10.PNG", "a9.txt", ".hidden.png", "notes.csv", "sub/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"unread")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.png").write_bytes(b"")
    return tmp_path


def test_a_folder_gives_its_images_and_texts_in_order(mixed: Path) -> None:
    def names(*arguments: Any, **options: Any) -> list[str]:
        return [str(item.path.relative_to(mixed)) for item in folder(mixed, *arguments, **options)]

    assert names() == ["a10.PNG", "a9.txt", "b.png"]
    assert names(recursive=True) == ["a10.PNG", "a9.txt", "b.png", "sub/c.jpg"]
    assert names("*.csv") == ["notes.csv"]
    assert names(kind="text") == ["a9.txt"]
    assert names("sub/*.jpg", recursive=True) == ["sub/c.jpg"]
    kinds = [item.kind for item in folder(mixed, "*[!.]*")]
    assert kinds == ["image", "text", "image", None]


def test_a_link_to_a_folder_above_is_no_endless_way(mixed: Path) -> None:
    (mixed / "sub" / "up").symlink_to(mixed, target_is_directory=True)
    (mixed / "sub" / "lost.png").symlink_to(mixed / "nowhere.png")

    assert len(list(folder(mixed, recursive=True))) == 4


def test_a_folder_is_read_as_it_is_used(mixed: Path) -> None:
    items = folder(mixed, recursive=True)
    (mixed / "sub" / "late.jpg").write_bytes(b"")

    assert [item.path.name for item in items][-2:] == ["c.jpg", "late.jpg"]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda _: None, {}, "photos is an empty folder"),
        (lambda path: (path / "a.csv").touch(), {}, "photos holds no images or texts"),
        (lambda path: (path / "a.txt").touch(), {"kind": "image"}, "photos holds no images"),
        (
            lambda path: (path / "a.png").touch(),
            {"pattern": "*.gif"},
            "photos holds no file '*.gif'",
        ),
        (lambda path: path.rmdir(), {}, "photos does not exist"),
        (lambda path: (path.rmdir(), path.touch()), {}, "photos is not a folder"),
    ],
)
def test_a_folder_without_such_files_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], object], options: dict[str, Any], message: str
) -> None:
    path = tmp_path / "photos"
    path.mkdir()
    make(path)

    with pytest.raises(InvalidInputError, match=re.escape(message)):
        folder(path, **options)


def test_an_empty_folder_given_as_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is an empty folder"):
        to_rows(tmp_path, [PHOTO])


def test_a_broken_image_among_others_is_named_by_its_file(photo: Path) -> None:
    (photo.parent / "zebra.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")

    with pytest.raises(InvalidInputError, match=re.escape(f"{photo.parent}{os.sep}zebra.png is")):
        to_rows(gathered(folder(photo.parent)), [PHOTO])


def test_several_images_can_be_taken_apart_and_put_together(photo: Path) -> None:
    several = Images([photo, picture(seed=1), picture(seed=2)])
    whole = images(several, PHOTO)

    assert len(several) == 3
    np.testing.assert_array_equal(images(several[1:], PHOTO), whole[1:])
    for given in (list(several), {"x": list(several)}, [{"x": one} for one in several]):
        rows: Any = to_rows(given, [PHOTO])
        np.testing.assert_array_equal(rows["x"], whole)
    letters: Any = to_rows(list(Texts(["a", "b"])), [TEXT])
    assert letters["x"].tolist() == [[b"a"], [b"b"]]
    with pytest.raises(InvalidInputError, match="got images of several sizes"):
        to_rows(list(Images([photo, picture(7, 7)])), [takes("UINT8", -1, 3, -1, -1)])


def test_records_may_hold_images(photo: Path) -> None:
    inputs = [PHOTO, takes("BYTES", -1, 1, name="question")]
    rows: Any = to_rows(
        [{"x": photo, "question": "who?"}, {"x": picture(), "question": "where?"}], inputs
    )

    assert rows["x"].shape == (2, 5, 6, 3)
    assert rows["question"] == ["who?", "where?"]


@pytest.fixture(scope="module")
def gallery(server: Server) -> None:
    with Client(server.http_url, token=server.token) as control:
        control.load("photos")


@pytest.mark.usefixtures("gallery")
def test_images_and_texts_reach_the_model(client: Client, photo: Path) -> None:
    pixels = np.asarray(picture())
    letter = photo.with_name("letter.txt")
    letter.write_text("Grüße", encoding="utf-8")

    np.testing.assert_array_equal(client.predict("photos", photo)["photo"], pixels[np.newaxis])
    np.testing.assert_array_equal(client.predict_one("photos", photo)["photo"], pixels)
    lone = client.predict_one("photos", Images(str(photo), resize="crop"))
    np.testing.assert_array_equal(lone["photo"], pixels)
    assert client.predict("text", letter)["text"].tolist() == [["Grüße"]]
    with pytest.raises(InvalidInputError, match=r"model 'photos' at .*: lost.png does"):
        client.predict("photos", Path("lost.png"))


@pytest.mark.usefixtures("gallery")
def test_a_folder_is_answered_file_by_file_and_a_broken_one_loses_no_other(
    client: Client, tmp_path: Path
) -> None:
    for place in range(9):
        picture(seed=place).save(tmp_path / f"{place}.png")
    (tmp_path / "5.png").write_bytes(b"broken")
    items = list(folder(tmp_path))

    for rows in (items, folder(tmp_path), Images(tmp_path)):
        answers = list(client.predict_many("photos", rows))
        for place, (item, answer) in enumerate(zip(items, answers, strict=True)):
            if place == 5:
                assert isinstance(answer, InvalidInputError)
                assert f"{item.path} is not an image" in answer.message
            else:
                assert not isinstance(answer, Exception)
                np.testing.assert_array_equal(answer["photo"], np.asarray(picture(seed=place)))
