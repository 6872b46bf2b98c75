"""Turn a model file into a proven artifact that Triton serves."""

from converters.conversion import convert
from converters.options import ConversionOptions
from toolkit.spec import Road

__all__ = ["ConversionOptions", "Road", "convert"]
