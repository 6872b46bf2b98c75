"""Rows of files, standard input and folders to tensors of a model, and answers to files.

Both ways go in pieces, so that a million rows need the memory of a few thousand.
"""

from toolkit.tables.files import Files
from toolkit.tables.fitting import Piece, Takes
from toolkit.tables.formats import INPUT_FORMATS, OUTPUT_FORMATS
from toolkit.tables.layout import Block
from toolkit.tables.sources import Source, open_rows
from toolkit.tables.writing import Sink, open_sink, whole

__all__ = [
    "INPUT_FORMATS",
    "OUTPUT_FORMATS",
    "Block",
    "Files",
    "Piece",
    "Sink",
    "Source",
    "Takes",
    "open_rows",
    "open_sink",
    "whole",
]
