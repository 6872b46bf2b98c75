"""Every variable of the two REST services works, by its own name."""

from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import ConfigError
from toolkit.gateway import settings
from toolkit.gateway.settings import Settings

DOCUMENTED: dict[str, tuple[str, str, Any, Any]] = {
    # variable: field, a value, what it becomes, the documented default
    "MODEL_DIR": ("model_dir", "/m", Path("/m"), Path("models")),
    "API_KEYS": ("api_keys", "a, b,,", ["a", "b"], []),
    "MAX_WORKERS": ("max_workers", "7", 7, 4),
    "ENABLE_ASYNC": ("enable_async", "0", False, True),
    "API_HOST": ("api_host", "127.0.0.1", "127.0.0.1", "0.0.0.0"),  # noqa: S104
    "API_PORT": ("api_port", "9000", 9000, 8000),
    "API_DEBUG": ("api_debug", "1", True, False),
    "JOB_TTL_SECONDS": ("job_ttl_seconds", "60", 60.0, 3600.0),
    "REQUIRE_API_KEY": ("require_api_key", "1", True, False),
    "ENGINE_ENABLE_BATCHING": ("engine_enable_batching", "0", False, True),
    "ENGINE_MAX_BATCH_SIZE": ("engine_max_batch_size", "128", 128, 64),
    "ENGINE_BATCH_TIMEOUT": ("engine_batch_timeout", "0.02", 0.02, 0.01),
    "ENGINE_MAX_CONCURRENT_REQUESTS": ("engine_max_concurrent_requests", "5", 5, 100),
    "ENGINE_ENABLE_CACHE": ("engine_enable_cache", "0", False, True),
    "ENGINE_MAX_CACHE_ENTRIES": ("engine_max_cache_entries", "9", 9, 1000),
    "ENGINE_CACHE_TTL_SECONDS": ("engine_cache_ttl_seconds", "5", 5.0, 3600.0),
    "ENGINE_ENABLE_QUANTIZATION": ("engine_enable_quantization", "1", True, False),
    "ENGINE_NUM_THREADS": ("engine_num_threads", "2", 2, 4),
    "ENGINE_ENABLE_THROTTLING": ("engine_enable_throttling", "1", True, False),
    "DEFAULT_MODEL_PATH": ("default_model_path", "/m/a.pkl", "/m/a.pkl", None),
    "DEFAULT_MODEL_TYPE": ("default_model_type", "SKLEARN", "SKLEARN", None),
    "DEFAULT_COMPILE_MODEL": ("default_compile_model", "1", True, False),
    "PORT": ("api_port", "8005", 8005, 8000),
    "MODEL_DIRECTORY": ("model_dir", "/n", Path("/n"), Path("models")),
    "MAX_ML_WORKERS": ("max_workers", "3", 3, 4),
    "MAX_BATCH_SIZE": ("engine_max_batch_size", "16", 16, 64),
    "MAX_CONCURRENT_REQUESTS": ("max_concurrent_requests", "12", 12, 1024),
    "PREDICT_TIMEOUT_SECONDS": ("predict_timeout_seconds", "2", 2.0, 15.0),
    "CIRCUIT_BREAKER_RECOVERY_TIMEOUT": ("circuit_breaker_recovery_timeout", "4", 4.0, 30.0),
    "MAX_REQUESTS": ("max_requests", "0", 0, 250),
    "REQUESTS_PERIOD_SECONDS": ("requests_period_seconds", "1", 1.0, 60.0),
    "LOG_DIRECTORY": ("log_directory", "/l", Path("/l"), None),
    "DEBUG_MODE": ("api_debug", "True", True, False),
}


def value(name: str) -> Any:
    found = getattr(Settings(), name)
    return [key.get_secret_value() for key in found] if name == "api_keys" else found


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        for variable in settings.variables(field):
            monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("variable", DOCUMENTED)
def test_a_variable_sets_what_it_is_documented_to(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, text, meant, default = DOCUMENTED[variable]
    assert value(field) == default
    monkeypatch.setenv(variable, "")
    assert value(field) == default
    monkeypatch.setenv(variable, text)
    assert value(field) == meant


def test_a_wrong_variable_is_named_with_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_MAX_BATCH_SIZE", "0")
    monkeypatch.setenv("API_PORT", "http")
    with pytest.raises(ConfigError) as refused:
        settings.read()
    assert "ENGINE_MAX_BATCH_SIZE is '0'" in refused.value.message
    assert "API_PORT is 'http'" in refused.value.message


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "very-secret")
    monkeypatch.setenv("TRITON_TOKEN", "also-secret")
    assert "secret" not in repr(Settings()).replace("SecretStr", "")


def test_an_env_file_is_read_and_the_environment_goes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("API_PORT=8123\nMAX_REQUESTS=5\n")
    monkeypatch.setenv("MAX_REQUESTS", "6")
    found = settings.read()
    assert (found.api_port, found.max_requests) == (8123, 6)
