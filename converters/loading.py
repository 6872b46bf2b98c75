"""From a path to a model in memory. What unpickles needs ``trusted``; nothing else does.

The content decides, not the suffix: a renamed pickle is still a pickle.
"""

import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from converters.extras import needed
from converters.interrupts import reraise_interrupt
from converters.modules import importable
from converters.source import LoadedModel
from converters.table import check_framework
from toolkit.errors import (
    ConfigError,
    ModelFileError,
    ToolkitError,
    UnsupportedModelError,
    UntrustedModelError,
)

_PICKLE_SUFFIXES = {".pkl", ".pickle", ".joblib"}
# Compressed joblib files: zlib, gzip, bzip2, xz, lzma, lz4.
_COMPRESSED = (b"\x78", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x5d\x00\x00", b"\x04\x22\x4d\x18")
# torch.save before 1.6, and with _use_new_zipfile_serialization=False.
_LEGACY_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")
# What a model is asked through. KernelDensity has only the last.
_METHODS = ("predict", "transform", "score_samples")
_PIP_NAMES = {"sklearn": "scikit-learn", "cv2": "opencv-python", "PIL": "pillow", "yaml": "pyyaml"}


def load(path: Path, *, trusted: bool, framework: str | None = None) -> LoadedModel:
    """Load the model in ``path``.

    Raises:
        ConfigError: ``framework`` is unknown, or the file holds another one's model.
        ModelFileError: the file is missing, empty, corrupt or does not load.
        UntrustedModelError: loading would run code and ``trusted`` is false.
        UnsupportedModelError: the file holds no model that could be served.
    """
    if framework is not None:
        check_framework(framework)
    head = _head(path)
    loaded = _loader(path, head)(path, trusted)
    if framework in {None, loaded.framework}:
        return loaded
    if framework == "predictor" and loaded.pickled:
        return LoadedModel("predictor", loaded.model, path, pickled=True)
    msg = f"{path.name} holds a {loaded.framework} model, not a {framework} one"
    raise ConfigError(msg, hint=f"leave --framework out, or say {loaded.framework}")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError as error:
        msg = f"{path} does not exist"
        raise ModelFileError(msg) from error
    except IsADirectoryError as error:
        msg = f"{path} is a folder, not a model file"
        raise ModelFileError(msg) from error
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise ModelFileError(msg) from error
    if not head:
        msg = f"{path} is empty"
        raise ModelFileError(msg)
    return head


def _loader(path: Path, head: bytes) -> Callable[[Path, bool], LoadedModel]:
    for magic, loader in _BY_CONTENT:
        if head.startswith(magic):
            return loader
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return _load_onnx
    if suffix in _PICKLE_SUFFIXES or head.startswith(_COMPRESSED):
        return _load_pickle
    return _BY_SUFFIX.get(suffix, _load_onnx)


def _load_onnx(path: Path, _trusted: bool) -> LoadedModel:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path))
    except (DecodeError, ValueError, OSError, onnx.checker.ValidationError) as error:
        raise _corrupt(path, "an ONNX model" if path.suffix == ".onnx" else None) from error
    if not model.ir_version or not model.graph.node:
        raise _corrupt(path, "an ONNX model" if path.suffix == ".onnx" else None)
    return LoadedModel("onnx", model, path)


def _load_xgboost(path: Path, _trusted: bool) -> LoadedModel:
    with needed("xgboost"):
        import xgboost
    booster = xgboost.Booster()
    try:
        # From memory, because XGBoost otherwise goes by the suffix.
        booster.load_model(bytearray(path.read_bytes()))
    except (xgboost.core.XGBoostError, ValueError) as error:
        raise _corrupt(path, "an XGBoost model") from error
    return LoadedModel("xgboost", _xgboost_estimator(booster), path)


def _xgboost_estimator(booster: Any) -> Any:
    """Wrap a bare booster so that it answers with labels and probabilities."""
    import xgboost

    wrapper = booster.attr("scikit_learn")
    if wrapper is None:
        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
        classifies = objective.startswith("multi:") or objective == "binary:logistic"
        # What an estimator's predict stops at; the booster's own takes all rounds.
        booster.set_attr(best_iteration=None)
    else:
        classifies = json.loads(wrapper).get("_estimator_type") == "classifier"
    estimator = xgboost.XGBClassifier() if classifies else xgboost.XGBRegressor()
    # A booster saved by another wrapper class refuses this one by its attribute.
    booster.set_attr(scikit_learn=None)
    estimator.load_model(bytearray(booster.save_raw("ubj")))
    return estimator


def _load_lightgbm(path: Path, _trusted: bool) -> LoadedModel:
    with needed("lightgbm"):
        import lightgbm
    try:
        booster = lightgbm.Booster(model_str=path.read_text(encoding="utf-8"))
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise _corrupt(path, "a LightGBM model") from error
    return LoadedModel("lightgbm", booster, path)


def _load_catboost(path: Path, _trusted: bool) -> LoadedModel:
    with needed("catboost"):
        import catboost
    try:
        plain = catboost.CatBoost().load_model(str(path), format="cbm")
        loss = str(plain.get_all_params().get("loss_function", "")).partition(":")[0]
        kind = _CATBOOST_KINDS.get(loss, "CatBoostRegressor")
        model = getattr(catboost, kind)().load_model(str(path), format="cbm")
    except catboost.CatBoostError as error:
        raise _corrupt(path, "a CatBoost model") from error
    return LoadedModel("catboost", model, path)


def _load_zip(path: Path, trusted: bool) -> LoadedModel:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise _corrupt(path, "a TorchScript or torch.save file") from error
    if any(name.endswith("/constants.pkl") for name in names):
        return _load_torchscript(path)
    if any(name.endswith("data.pkl") for name in names):
        return _load_torch(path, trusted)
    msg = f"{path.name} is a zip archive with no model in it that is known here"
    raise ModelFileError(msg, hint="known archives: TorchScript and torch.save")


def _load_torchscript(path: Path) -> LoadedModel:
    with needed("torch"):
        import torch
    with warnings.catch_warnings():
        # torch 2.13: TorchScript is deprecated; Triton's PyTorch backend reads nothing else.
        warnings.simplefilter("ignore")
        try:
            module = torch.jit.load(str(path), map_location="cpu")
        except RuntimeError as error:
            raise _corrupt(path, "a TorchScript model") from error
    return LoadedModel("torchscript", module.eval(), path)


def _load_torch(path: Path, trusted: bool) -> LoadedModel:
    with needed("torch"):
        import torch
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if not trusted:
            raise _untrusted(path) from None
    except (RuntimeError, EOFError) as error:
        raise _corrupt(path, "a torch.save file") from error
    else:
        raise _weights_only(path, weights)
    model = _unpickle(path, lambda: torch.load(path, map_location="cpu", weights_only=False))
    return _classified(model, path, pickled=False)


def _weights_only(path: Path, weights: object) -> UnsupportedModelError:
    what = "weights only (a state dict)" if isinstance(weights, dict) else "tensors only"
    return UnsupportedModelError(
        f"{path.name} holds {what}, and weights alone cannot be served",
        hint="load them into the module and save that: torch.jit.script(module).save('model.pt')",
    )


def _load_pickle(path: Path, trusted: bool) -> LoadedModel:
    if not trusted:
        raise _untrusted(path)
    with needed("sklearn"):
        import joblib
    with warnings.catch_warnings():
        # The libraries warn of other versions than those that trained; the proof decides.
        warnings.simplefilter("ignore")
        model = _unpickle(path, lambda: joblib.load(path))
    return _classified(model, path, pickled=True)


def _unpickle(path: Path, read: Callable[[], Any]) -> Any:
    try:
        with importable(path.parent):
            return read()
    except ModuleNotFoundError as error:
        module = (error.name or str(error)).partition(".")[0]
        msg = f"{path.name} needs the module {error.name or error}, which is not installed"
        hint = f"pip install {_PIP_NAMES.get(module, module)}"
        raise ModelFileError(msg, hint=hint) from error
    except AttributeError as error:
        if "__main__" in str(error):
            msg = f"{path.name} uses a class or function that its training script defined: {error}"
            hint = "move it from the script into a module, import it there, and save the model anew"
            raise ModelFileError(msg, hint=hint) from error
        raise _does_not_load(path, error) from error
    except (ToolkitError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # A pickle runs any code and so raises anything.
        reraise_interrupt(error)
        raise _does_not_load(path, error) from error


def _classified(model: Any, path: Path, *, pickled: bool) -> LoadedModel:
    classes = type(model).__mro__
    roots = {cls.__module__.partition(".")[0] for cls in classes}
    if any(cls.__module__ == "torch.nn.modules.module" for cls in classes):
        return LoadedModel("torch", model.eval(), path)
    if isinstance(model, dict):
        raise _weights_only(path, model) if "torch" in roots or not pickled else _no_predict(model)
    _check_fitted(model)
    if not any(callable(getattr(model, method, None)) for method in _METHODS):
        raise _no_predict(model)
    if "xgboost" in roots:
        bare = type(model).__name__ == "Booster"
        model = _xgboost_estimator(model) if bare else model
        return LoadedModel("xgboost", model, path, pickled=not bare)
    for framework in ("catboost", "lightgbm", "sklearn"):
        if framework in roots:
            return LoadedModel(framework, model, path, pickled=pickled)
    return LoadedModel("predictor", model, path, pickled=pickled)


def _check_fitted(model: Any) -> None:
    # Of other people's classes nobody knows what they keep when they are fitted.
    if not type(model).__module__.startswith("sklearn."):
        return
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError as error:
        msg = f"the file holds a {type(model).__name__} that is not fitted yet"
        raise UnsupportedModelError(msg, hint="call its fit, then save it again") from error


def _no_predict(model: object) -> UnsupportedModelError:
    msg = f"the file holds a {type(model).__name__}, which has neither predict nor transform"
    return UnsupportedModelError(
        msg, hint="Triton's callers ask through these: save an object that has one"
    )


def _untrusted(path: Path) -> UntrustedModelError:
    return UntrustedModelError(
        f"{path.name} is a pickle, and loading it runs the code inside it",
        hint=f"toolkit convert {path} --trusted      (if you made the file)",
    )


def _corrupt(path: Path, what: str | None) -> ModelFileError:
    if what is None:
        return ModelFileError(
            f"{path.name} is no model file that is known here",
            hint="known: .onnx, XGBoost .ubj and .json, LightGBM .txt, CatBoost .cbm, TorchScript"
            " .pt,"
            " and with --trusted pickle, joblib and torch.save files",
        )
    return ModelFileError(f"{path.name} is not {what}, or it is damaged")


def _does_not_load(path: Path, error: BaseException) -> ModelFileError:
    reason = str(error).strip().partition("\n")[0]
    told = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return ModelFileError(
        f"{path.name} does not load: {told}",
        hint="is the file complete? save the model again, with the libraries installed here",
    )


_BY_CONTENT: tuple[tuple[tuple[bytes, ...], Callable[[Path, bool], LoadedModel]], ...] = (
    ((b"PK\x03\x04",), _load_zip),
    ((_LEGACY_TORCH,), _load_torch),
    ((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), _load_pickle),
    ((b"tree\n", b"tree\r\n"), _load_lightgbm),
    ((b"CBM1",), _load_catboost),
    ((b"{",), _load_xgboost),
)

# By the name of the loss; all others are a regressor's.
_CATBOOST_KINDS = {
    **dict.fromkeys(
        (
            "Logloss",
            "CrossEntropy",
            "MultiClass",
            "MultiClassOneVsAll",
            "MultiLogloss",
            "MultiCrossEntropy",
            "Focal",
        ),
        "CatBoostClassifier",
    ),
    **dict.fromkeys(
        (
            "PairLogit",
            "PairLogitPairwise",
            "YetiRank",
            "YetiRankPairwise",
            "QueryRMSE",
            "QuerySoftMax",
            "QueryCrossEntropy",
            "StochasticFilter",
            "StochasticRank",
            "LambdaMart",
        ),
        "CatBoostRanker",
    ),
}

_BY_SUFFIX: dict[str, Callable[[Path, bool], LoadedModel]] = {
    ".ubj": _load_xgboost,
    ".json": _load_xgboost,
    ".cbm": _load_catboost,
    ".txt": _load_lightgbm,
    ".pt": _load_zip,
    ".pth": _load_zip,
    ".pt2": _load_zip,
}
