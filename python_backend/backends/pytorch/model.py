"""Serve ``backend: "pytorch"`` where Triton's own C++ backend is not there.

It runs in the stub of the Python backend, one process an instance. It takes TorchScript
files and refuses what the C++ backend refuses or answers wrongly (``pytorch_rules.py``).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_rules as rules
import triton_python_backend_utils as pb_utils
from backend_answers import answer, response, split


class TritonPythonModel:
    """One instance of one version of a model."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Change nothing: a TorchScript file tells neither data types nor shapes."""
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the TorchScript file, or say why the model cannot be served."""
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        try:
            settings = rules.settings(config)
            import torch

            self._device = _device(config, args)
            self._module = _load(config, folder, self._device)
            self._plan = rules.check(config, rules.describe(self._module))
        except rules.RefusedError as refusal:
            raise pb_utils.TritonModelException(str(refusal)) from None
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self._batched = config["max_batch_size"] > 0
        self._inference_mode = settings.inference_mode
        self._optimized = settings.optimized
        self._texts = {
            entry["name"] for entry in config["input"] if entry["data_type"] == "TYPE_STRING"
        }
        self._types = {entry["name"]: entry["data_type"] for entry in config["output"]}
        self._first = config["input"][0]["name"]
        pb_utils.Logger.log_info(
            f"pytorch: {args['model_instance_name']} version {args['model_version']}:"
            f" torch={torch.__version__} intra_op={torch.get_num_threads()}"
            f" inference_mode={self._inference_mode} optimized={self._optimized}"
            f" device={self._device}"
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests: joined in one run, each by itself where that fails."""
        return answer(requests, self._run, batched=self._batched)

    def finalize(self) -> None:
        """Let the model go."""
        del self._module

    def _run(self, requests: Sequence[Any]) -> list[Any]:
        parts: dict[str, list[Any]] = {name: [] for name in self._plan.inputs}
        for request in requests:
            for tensor in request.inputs():
                parts[tensor.name()].append(tensor.as_numpy())
        results = self._forward({name: self._joined(name, parts[name]) for name in parts})
        arrays = {
            name: self._array(name, results, place) for name, place in self._plan.outputs.items()
        }
        wanted = [request.requested_output_names() for request in requests]
        if not self._batched:
            return [response(wanted[0], arrays)]
        return split(wanted, arrays, [len(array) for array in parts[self._first]])

    def _joined(self, name: str, arrays: Sequence[Any]) -> Any:
        import torch

        array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        if name in self._texts:
            return [value.decode() for value in array.ravel()]
        tensor = torch.from_numpy(array)
        return tensor if self._device is None else tensor.to(self._device)

    def _forward(self, feed: dict[str, Any]) -> tuple[Any, ...]:
        import torch

        if self._plan.keys is not None:
            arguments: list[Any] = [{name: feed[name] for name in self._plan.keys}]
        else:
            arguments = [feed[name] for name in sorted(feed, key=self._plan.inputs.__getitem__)]
        with (
            torch.inference_mode(self._inference_mode),
            torch.no_grad(),
            torch.jit.optimized_execution(self._optimized),
        ):
            results = self._module(*arguments)
        return results if isinstance(results, tuple) else (results,)

    def _array(self, name: str, results: tuple[Any, ...], place: int) -> Any:
        import torch

        if place >= len(results):
            raise ValueError(f"output '{name}' is number {place}, and forward gave {len(results)}")
        result = results[place]
        if isinstance(result, list) and all(isinstance(value, str) for value in result):
            array = np.array(result, dtype=object)
        elif isinstance(result, torch.Tensor):
            array = result.detach().cpu().numpy()
        else:
            raise TypeError(
                f"output '{name}' is a {type(result).__name__}; Triton takes tensors and lists of"
                " text"
            )
        wanted = pb_utils.triton_string_to_numpy(self._types[name])
        if array.dtype != wanted:
            raise TypeError(
                f"output '{name}' is {array.dtype} in the model and {self._types[name]} in the"
                " config; correct its data_type"
            )
        if array.ndim == 0:
            raise ValueError(f"output '{name}' is a scalar, which Triton cannot carry")
        return array


def _device(config: dict[str, Any], args: dict[str, str]) -> Any:
    """Return the device of this instance; ``None``: the model places its parts itself."""
    import torch

    kind = args["model_instance_kind"]
    if kind == "MODEL":
        return None
    if kind != "GPU":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        rules.refuse(
            config,
            f"KIND_GPU needs a torch with CUDA, and this is {torch.__version__}; install one or"
            " write instance_group [ { kind: KIND_CPU } ]",
        )
    return torch.device("cuda", int(args["model_instance_device_id"]))


def _load(config: dict[str, Any], folder: Path, device: Any) -> Any:
    import torch

    path = folder / (config["default_model_filename"] or "model.pt")
    if not path.is_file():
        rules.refuse(config, f"there is no {path}")
    try:
        return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
    rules.refuse(
        config,
        f"torch {torch.__version__} cannot load {path.name} as TorchScript ({reason}); write it"
        " with torch.jit.trace or torch.jit.script, then .save(), not with torch.save or"
        " torch.export",
    )
    return None
