"""A model file may do what it likes: only the process that opens it suffers."""

import asyncio
import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import ConversionError
from toolkit.gateway.engine import loading
from toolkit.gateway.engine.live_config import Config
from toolkit.gateway.engine.loading import Wanted
from toolkit.gateway.exchange import Refused


class Runs:
    """A pickle that calls something when it is opened."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.called = function, given

    def __reduce__(self) -> Any:
        return self.called


def _asked(path: Path, **changes: Any) -> dict[str, Any]:
    asked = {
        "task": "convert",
        "path": str(path),
        "root": str(path.parent),
        "model_type": None,
        "compile": None,
        "trusted": True,
        "sample": None,
        "name": "engine_m",
        "repository": str(path.parent / "repository"),
        "threads": None,
        "quantize": None,
        "serving": Config().serving(),
    }
    return {**asked, **changes}


def _file(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_bytes(pickle.dumps(content))
    return path


def test_a_model_that_ends_its_process_prints_or_never_returns_harms_nobody(
    tmp_path: Path,
) -> None:
    exits = _file(tmp_path, "exits.pkl", Runs(os._exit, 7))
    killed = _file(tmp_path, "killed.pkl", Runs(os.system, f"kill -{signal.SIGSEGV} $PPID"))
    loud = _file(
        tmp_path, "loud.pkl", Runs(exec, "import os\nos.write(2, b'x' * 3_000_000)\nos._exit(3)")
    )
    hangs = _file(tmp_path, "hangs.pkl", Runs(time.sleep, 600))

    async def all_at_once() -> tuple[object, ...]:
        return await asyncio.gather(
            loading.apart(_asked(exits), 60),
            loading.apart(_asked(killed), 60),
            loading.apart(_asked(loud), 60),
            loading.apart(_asked(hangs), 5),
            return_exceptions=True,
        )

    said = [str(outcome) for outcome in asyncio.run(all_at_once())]
    assert said[0] == "its process ended with code 7"
    assert said[1] == "its process ended by signal SIGSEGV"
    assert said[2].startswith("its process ended with code 3: xxx")
    assert len(said[2]) < 5000
    assert said[3] == "it took longer than 5 s"


def test_what_runs_code_needs_the_setting_whatever_its_file_is_called(tmp_path: Path) -> None:
    disguised = _file(tmp_path, "m.onnx", Runs(os._exit, 7))
    with pytest.raises(Refused, match="ALLOW_PICKLE=1") as refusal:
        asyncio.run(loading.apart(_asked(disguised, trusted=False), 60))
    assert refusal.value.status == 403


def test_a_model_that_does_not_say_what_it_takes_asks_for_a_sample(tmp_path: Path) -> None:
    function = _file(tmp_path, "m.pkl", abs)
    with pytest.raises(ConversionError, match="a sample is needed") as refusal:
        asyncio.run(loading.apart(_asked(function, model_type="custom"), 60))
    assert "sample_path" in str(refusal.value.hint)


def test_an_entry_is_named_after_its_file() -> None:
    for file, name in (("churn.v2.pkl", "engine_churn"), ("Größe 1.onnx", "engine_Gr__e_1")):
        assert Wanted(path=Path(file), root=Path()).name == name
