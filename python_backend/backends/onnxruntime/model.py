"""Serve ``backend: "onnxruntime"`` where Triton's own C++ backend is not there.

It runs in the stub of the Python backend, one process an instance. It loads what the C++
backend loads, refuses what that refuses (``onnxruntime_rules.py``), and gives the same
answers bit for bit.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_rules as rules
import triton_python_backend_utils as pb_utils
from backend_answers import answer, response, split

_LEVELS = {-1: "ORT_ENABLE_BASIC", 1: "ORT_ENABLE_EXTENDED", 2: "ORT_DISABLE_ALL"}


class TritonPythonModel:
    """One instance of one version of a model."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Fill in what the config leaves out, as the C++ backend does."""
        # as_dict() is the config itself; add_output() would refuse the key ``reshape``.
        config = auto_complete_model_config.as_dict()
        if not (config["input"] and config["output"]):
            try:
                session = _open(config, Path(pb_utils.get_model_dir()), rules.settings(config), [])
                rules.complete(config, rules.describe(session))
            except rules.RefusedError as refusal:
                raise pb_utils.TritonModelException(str(refusal)) from None
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Open the session, or say why the model cannot be served."""
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        try:
            settings = rules.settings(config)
            self._session = _open(config, folder, settings, _providers(config, args))
            model = rules.describe(self._session)
            rules.check(config, model)
        except rules.RefusedError as refusal:
            raise pb_utils.TritonModelException(str(refusal)) from None
        self._batched = config["max_batch_size"] > 0
        self._names = [entry["name"] for entry in config["input"]]
        self._texts = [
            entry["name"] for entry in config["input"] if entry["data_type"] == "TYPE_STRING"
        ]
        # Triton has no scalars: outside they have as many dimensions as the config gives them.
        self._scalar_inputs = [tensor.name for tensor in model.inputs if not tensor.shape]
        self._scalar_outputs = {
            entry["name"]: entry["dims"]
            for entry in config["output"]
            if not next(t for t in model.outputs if t.name == entry["name"]).shape
        }
        options = self._session.get_session_options()
        pb_utils.Logger.log_info(
            f"onnxruntime: {args['model_instance_name']} version {args['model_version']}:"
            f" intra_op={options.intra_op_num_threads} inter_op={options.inter_op_num_threads}"
            f" execution_mode={options.execution_mode.name}"
            f" graph_level={options.graph_optimization_level.name}"
            f" mem_arena={options.enable_cpu_mem_arena} mem_pattern={options.enable_mem_pattern}"
            f" providers={','.join(self._session.get_providers())} (0 threads: all cores)"
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests: joined in one run, each by itself where that fails."""
        return answer(requests, self._run, batched=self._batched)

    def finalize(self) -> None:
        """Close the session."""
        del self._session

    def _run(self, requests: Sequence[Any]) -> list[Any]:
        parts: dict[str, list[Any]] = {name: [] for name in self._names}
        for request in requests:
            for tensor in request.inputs():
                parts[tensor.name()].append(tensor.as_numpy())
        feed = {
            name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
            for name, arrays in parts.items()
            if arrays  # an optional input may be left out
        }
        for name in self._texts:
            feed[name] = _decoded(feed[name])
        for name in self._scalar_inputs:
            feed[name] = feed[name].reshape(())

        wanted = [request.requested_output_names() for request in requests]
        names = list(wanted[0] if len(requests) == 1 else set().union(*wanted))
        outputs = dict(zip(names, self._session.run(names, feed), strict=True))
        for name, dims in self._scalar_outputs.items():
            if name in outputs:
                outputs[name] = outputs[name].reshape(dims)
        if not self._batched:
            return [response(wanted[0], outputs)]
        rows = [len(array) for array in parts[self._names[0]]]
        return split(wanted, outputs, rows)


def _decoded(array: Any) -> Any:
    # ONNX Runtime would take bytes and turn them into the text "b'...'".
    texts = np.empty(array.shape, dtype=object)
    texts.ravel()[:] = [value.decode() for value in array.ravel()]
    return texts


def _open(
    config: dict[str, Any], folder: Path, settings: rules.Settings, providers: list[Any]
) -> Any:
    import onnxruntime as ort

    path = folder / (config["default_model_filename"] or "model.onnx")
    if path.is_dir():
        path /= "model.onnx"  # a model whose weights are files beside it
    if not path.is_file():
        raise pb_utils.TritonModelException(f"model '{config['name']}': there is no {path}")
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(
        ort.GraphOptimizationLevel, _LEVELS.get(settings.graph_level, "ORT_ENABLE_ALL")
    )
    # Zero and below leave the choice to ONNX Runtime, as on the C++ backend.
    options.intra_op_num_threads = max(settings.intra_op or 0, 0)
    options.inter_op_num_threads = max(settings.inter_op or 0, 0)
    if settings.parallel:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    if settings.memory_arena is not None:
        options.enable_cpu_mem_arena = settings.memory_arena
    if settings.memory_pattern is not None:
        options.enable_mem_pattern = settings.memory_pattern
    if settings.device_allocator is not None:
        options.add_session_config_entry(
            "session.use_device_allocator_for_initializers", settings.device_allocator
        )
    for library in config.get("model_operations", {}).get("op_library_filename", []):
        options.register_custom_ops_library(library)
    try:
        return ort.InferenceSession(str(path), options, [*providers, "CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no other base
        raise pb_utils.TritonModelException(
            f"model '{config['name']}': ONNX Runtime {ort.__version__} cannot load {path.name}:"
            f" {str(error).strip()}{_hint(str(error))}"
        ) from None


def _hint(reason: str) -> str:
    newer = ("Unsupported model IR version", "under development", "NOT_IMPLEMENTED")
    if any(words in reason for words in newer):
        return " -- export the model with a lower opset and IR version, or use a newer ONNX Runtime"
    return ""


def _providers(config: dict[str, Any], args: dict[str, str]) -> list[Any]:
    if args["model_instance_kind"] != "GPU":
        return []
    import onnxruntime as ort

    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise pb_utils.TritonModelException(
            f"model '{config['name']}': KIND_GPU needs an ONNX Runtime with CUDA, and this one has"
            f" {', '.join(ort.get_available_providers())}; install onnxruntime-gpu or write"
            " instance_group [ { kind: KIND_CPU } ]"
        )
    device = {"device_id": args["model_instance_device_id"]}
    return [("CUDAExecutionProvider", device)]
