"""What Triton's own FIL backend accepts and reads from a config.

The rules are those of ``src/shared_state.h``, ``src/model.h`` and the documentation of
triton-inference-server/fil_backend. Standard library only.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

FILES = {
    "xgboost": "xgboost.model",
    "xgboost_json": "xgboost.json",
    "xgboost_ubj": "xgboost.ubj",
    "lightgbm": "model.txt",
    "treelite_checkpoint": "checkpoint.tl",
}
INPUT, OUTPUT = "input__0", "output__0"

_CHOICES = {
    "storage_type": {"AUTO", "DENSE", "SPARSE", "SPARSE8"},
    "algo": {"ALGO_AUTO", "NAIVE", "TREE_REORG", "BATCH_TREE_REORG"},
    "layout": {"depth_first", "breadth_first", "layered"},
}
_NUMBERS = ("chunk_size", "blocks_per_sm", "threads_per_tree", "transfer_threshold")


class RefusedError(Exception):
    """The C++ backend would refuse this model or config, or answer it wrongly."""


class Settings(NamedTuple):
    """What a config says of its forest; ``threads`` below 1 leaves the choice to treelite."""

    model_type: str
    classifier: bool
    probabilities: bool
    threshold: float
    threads: int
    unknown_fields: bool


class Forest(Protocol):
    """What the rules ask of a loaded forest."""

    shape: Any

    def widths(self) -> tuple[int, ...]:
        """Return the widths that the output may have."""
        ...


def refuse(config: Mapping[str, Any], problems: Iterable[str]) -> None:
    """Raise ``RefusedError`` when there is any problem."""
    found = list(problems)
    if found:
        raise RefusedError(f"model '{config['name']}': " + "; ".join(found))


def settings(config: Mapping[str, Any]) -> Settings:
    """Read the parameters; raise ``RefusedError`` for a value that is not one.

    Keys and values are those of the C++ backend. Other parameters are ignored, as there.
    """
    texts = {
        key: value.get("string_value", "") for key, value in config.get("parameters", {}).items()
    }
    refuse(config, _wrong_parameters(texts))
    # From 25.09 on it is called is_classifier; output_class is still read, and goes first.
    classifier = texts.get("output_class", texts.get("is_classifier")) == "true"
    return Settings(
        model_type=texts.get("model_type", "xgboost"),
        classifier=classifier,
        probabilities=classifier and texts.get("predict_proba") == "true",
        threshold=float(texts.get("threshold", "0.5")),
        threads=int(texts.get("cpu_nthread", "-1")),
        unknown_fields=texts.get("xgboost_allow_unknown_field") == "true",
    )


def _wrong_parameters(texts: Mapping[str, str]) -> Iterator[str]:
    kind = texts.get("model_type", "xgboost")
    if kind not in FILES:
        yield f"parameter model_type is '{kind}'; write one of {', '.join(FILES)}"
    if "output_class" not in texts and "is_classifier" not in texts:
        yield (
            "parameter is_classifier is missing; write true for a classifier and false for a"
            " regressor (and the same as output_class, for containers before 25.09)"
        )
    flags = (
        "output_class",
        "is_classifier",
        "predict_proba",
        "xgboost_allow_unknown_field",
        "use_experimental_optimizations",
    )
    for key in flags:
        if texts.get(key, "true") not in {"true", "false"}:
            yield f"parameter {key} is '{texts[key]}'; write true or false"
    if len({texts[key] for key in ("output_class", "is_classifier") if key in texts}) > 1:
        yield "parameters output_class and is_classifier mean the same and differ"
    yield from _wrong_values(texts)


def _wrong_values(texts: Mapping[str, str]) -> Iterator[str]:
    for key, known in _CHOICES.items():
        if key in texts and texts[key] not in known:
            yield f"parameter {key} is '{texts[key]}'; write one of {', '.join(sorted(known))}"
    for key in (*_NUMBERS, "cpu_nthread"):
        if key in texts and not _is(int, texts[key]):
            yield f"parameter {key} is '{texts[key]}'; write a whole number"
    if "threshold" in texts and not _is(float, texts["threshold"]):
        yield f"parameter threshold is '{texts['threshold']}'; write a number"


def _is(kind: type[int] | type[float], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def check(config: Mapping[str, Any], forest: Forest) -> None:
    """Raise ``RefusedError``, naming everything that the C++ backend does not serve."""
    refuse(config, [*_unsupported(config), *_wrong_tensors(config, forest)])


def _unsupported(config: Mapping[str, Any]) -> Iterator[str]:
    if config["max_batch_size"] < 1:
        yield "max_batch_size is 0; FIL needs one above 0"
    for key in ("sequence_batching", "batch_input", "batch_output"):
        if config.get(key):
            yield f"{key} is not supported by the Python-based FIL backend; leave it out"
    if config.get("model_transaction_policy", {}).get("decoupled"):
        yield "decoupled is not supported by FIL; leave it out"


def _wrong_tensors(config: Mapping[str, Any], forest: Forest) -> Iterator[str]:
    shape, widths = forest.shape, forest.widths()
    if shape.targets > 1:
        yield f"the model gives {shape.targets} values a row; FIL serves no multi-output model"
    names = [entry["name"] for entry in config["input"]]
    if names != [INPUT]:
        yield f"the inputs are {names or 'missing'}; FIL takes one, called {INPUT}"
    names = [entry["name"] for entry in config["output"]]
    if names != [OUTPUT]:
        yield f"the outputs are {names or 'missing'}; this backend gives one, called {OUTPUT}"
    for entry in (*config["input"], *config["output"]):
        name, wanted = entry["name"], (shape.features,) if entry in config["input"] else widths
        if entry["data_type"] != "TYPE_FP32":
            yield f"'{name}' is {entry['data_type']}; FIL knows TYPE_FP32 only"
        if entry.get("optional") or entry.get("allow_ragged_batch") or "reshape" in entry:
            yield f"'{name}': FIL knows no optional, allow_ragged_batch or reshape; leave it out"
        # The C++ backend does not look, and reads or writes past the end of a row.
        if len(entry["dims"]) != 1 or entry["dims"][0] not in wanted:
            yield f"'{name}' has dims: {entry['dims']}; of this model it is [{wanted[0]}]"
