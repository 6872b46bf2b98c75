"""The table of converters is data, and every entry keeps the one signature."""

import inspect
import subprocess
import sys

import pytest

from converters.table import ENTRIES, Converter, Entry, ladder
from toolkit.spec import Road


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.framework}-{entry.rung}")
def test_every_converter_has_the_signature_of_the_protocol(entry: Entry) -> None:
    expected = inspect.signature(Converter.__call__)
    found = inspect.signature(entry.load())
    assert list(found.parameters.values()) == list(expected.parameters.values())[1:]
    assert found.return_annotation == expected.return_annotation


def test_listing_the_table_imports_no_framework() -> None:
    heavy = "torch sklearn onnx onnxruntime pandas xgboost lightgbm skl2onnx tritonclient grpc"
    code = (
        "import sys, converters, converters.table, converters.loading\n"
        f"print([name for name in {heavy.split()!r} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_ladder_of_a_pickled_estimator_ends_with_itself() -> None:
    assert [entry.road for entry in ladder("sklearn", None)] == [
        Road.ONNX,
        Road.ONNX,
        Road.PYTHON,
    ]
