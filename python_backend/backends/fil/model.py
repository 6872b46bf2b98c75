"""Serve ``backend: "fil"`` where Triton's own C++ backend is not there.

It runs in the stub of the Python backend, one process an instance, on the CPU. It loads
what the C++ backend loads, with treelite as that does, and refuses what that refuses
(``fil_rules.py``).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fil_forest
import fil_rules as rules
import numpy as np
import triton_python_backend_utils as pb_utils
from backend_answers import answer, split


class TritonPythonModel:
    """One instance of one version of a model."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Change nothing: neither does the C++ backend."""
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the forest, or say why the model cannot be served."""
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        try:
            settings = rules.settings(config)
            if args["model_instance_kind"] == "GPU":
                rules.refuse(config, ["the embedded FIL runs on the CPU; write kind: KIND_CPU"])
            self._forest = _load(config, folder, settings)
            rules.check(config, self._forest)
        except rules.RefusedError as refusal:
            raise pb_utils.TritonModelException(str(refusal)) from None
        self._width = config["output"][0]["dims"][0]
        pb_utils.Logger.log_info(
            f"fil: {args['model_instance_name']} version {args['model_version']}:"
            f" model_type={settings.model_type} is_classifier={settings.classifier}"
            f" predict_proba={settings.probabilities} cpu_nthread={settings.threads}"
            " (below 1: all cores)"
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests: joined in one run, each by itself where that fails."""
        return answer(requests, self._run, batched=True)

    def finalize(self) -> None:
        """Let the model go."""
        del self._forest

    def _run(self, requests: Sequence[Any]) -> list[Any]:
        parts = [request.inputs()[0].as_numpy() for request in requests]
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        outputs = {rules.OUTPUT: self._forest.answer(rows, self._width)}
        wanted = [request.requested_output_names() for request in requests]
        return split(wanted, outputs, [len(part) for part in parts])


def _load(config: dict[str, Any], folder: Path, settings: rules.Settings) -> Any:
    path = folder / (config["default_model_filename"] or rules.FILES[settings.model_type])
    if path.is_dir():
        path /= rules.FILES[settings.model_type]
    if not path.is_file():
        rules.refuse(config, [f"there is no {path}"])
    try:
        return fil_forest.load(path, settings)
    except ModuleNotFoundError as error:
        problem = f"{error.name} is not installed: pip install 'triton-companion[fil]'"
    except Exception as error:  # noqa: BLE001 - treelite's errors and those of its parsers
        reason = " ".join(str(error).split())
        problem = f"treelite cannot load {path.name} as {settings.model_type}: {reason}"
    rules.refuse(config, [problem])
    return None
