"""What the gateway reads from its environment: each variable by its own name."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from toolkit.errors import ConfigError

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]

_MIB = 1 << 20


def _read(default: Any, told: str, *names: str) -> Any:
    """Declare a setting; ``names`` are its variables, the first one that is set counts."""
    if not names:
        return Field(default, description=told)
    return Field(default, description=told, validation_alias=AliasChoices(*names))


class Settings(BaseSettings):
    """The gateway's settings, from the environment or from ``.env``; times are in seconds.

    A variable is its field's name in capitals unless others are named; each field's
    description says what it means. An empty variable counts as not set.
    """

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", env_ignore_empty=True, populate_by_name=True
    )

    api_host: str = _read("0.0.0.0", "Where to listen.", "API_HOST", "HOST")  # noqa: S104
    api_port: Port = _read(8000, "Port for HTTP.", "API_PORT", "PORT")
    grpc_port: Port | None = _read(
        None, "Port for the V2 protocol over gRPC; unset: none.", "GATEWAY_GRPC_PORT"
    )
    ssl_certfile: Path | None = _read(None, "Certificate: HTTPS in place of HTTP.")
    ssl_keyfile: Path | None = _read(None, "Its private key.")
    api_debug: bool = _read(False, "Log in detail.", "API_DEBUG", "DEBUG_MODE")
    trust_forwarded: bool = _read(
        True, "Believe X-Forwarded-For and X-Real-IP: there is a proxy that sets them."
    )

    triton_url: str | None = _read(
        None, "HTTP port of the Triton to stand before; unset: the repository's embedded one."
    )
    triton_grpc_url: str | None = _read(None, "Its gRPC port, for the V2 protocol over gRPC.")
    triton_token: SecretStr | None = _read(None, "The token of its model control, if it has one.")
    model_repository: Path = _read(
        Path("model_repository"),
        "The model repository; its embedded Triton is started if none runs.",
        "MODEL_REPOSITORY",
        "TOOLKIT_REPOSITORY",
    )

    model_dir: Path = _read(
        Path("models"),
        "Folder of the files that POST /models/load may name.",
        "MODEL_DIR",
        "MODEL_DIRECTORY",
    )
    allow_pickle: bool = _read(False, "Load pickles from it: loading one runs the code inside.")
    default_model_path: str | None = _read(None, "File of a model to load at the start.")
    default_model_type: str | None = _read(None, "Its type; unset or unknown: found out.")
    default_compile_model: bool = _read(False, "As compile_model of POST /models/load.")

    require_api_key: bool = _read(False, "Ask for a key; open are GET / and GET /health.")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = _read((), "Keys, with commas between.")
    api_keys_file: Path | None = _read(None, "File of hashed keys; read again when it changes.")

    max_concurrent_requests: Count = _read(1024, "Predictions by model name at once.")
    back_pressure: Literal["semaphore", "queue", "reject"] = _read(
        "semaphore", "What becomes of more: they wait, wait in a short queue, or are sent away."
    )
    back_pressure_queue_size: Count = _read(100, "Places in that queue.")
    back_pressure_timeout_seconds: Seconds = _read(1.0, "The longest wait in it.")
    max_requests: Amount = _read(250, "Requests of one address to /predict_batched in a period.")
    requests_period_seconds: Seconds = _read(60.0, "That period.")
    predict_timeout_seconds: Seconds = _read(15.0, "Time that a prediction may take.")
    circuit_breaker: bool = _read(False, "Leave a model alone that keeps failing.")
    circuit_breaker_failure_threshold: Count = _read(5, "Failures in a row until then.")
    circuit_breaker_recovery_timeout: Seconds = _read(30.0, "How long it is left alone.")
    max_body_bytes: Count = _read(64 * _MIB, "The longest body of a request.")
    max_json_depth: Count = _read(32, "How deep JSON may be nested.")
    max_workers: Count = _read(4, "Jobs that run at once.", "MAX_WORKERS", "MAX_ML_WORKERS")

    engine_enable_batching: bool = _read(True, "Join requests: Triton's dynamic batching.")
    engine_max_batch_size: Count = _read(
        64, "The largest batch.", "ENGINE_MAX_BATCH_SIZE", "MAX_BATCH_SIZE"
    )
    engine_batch_timeout: Annotated[float, Field(ge=0)] = _read(
        0.01, "How long a request waits for others."
    )
    engine_max_concurrent_requests: Count = _read(100, "Requests to the engine at once.")
    engine_enable_cache: bool = _read(True, "Keep answers and give them again.")
    engine_max_cache_entries: Count = _read(1000, "Answers kept.")
    engine_cache_ttl_seconds: Seconds = _read(3600.0, "How long they are kept.")
    engine_enable_quantization: bool = _read(False, "Quantize models when they are loaded.")
    engine_num_threads: Count = _read(4, "Threads for one call of the model.")
    engine_enable_throttling: bool = _read(False, "Turn away what is more than may run at once.")

    enable_async: bool = _read(True, "Take jobs: POST /predict/async.")
    job_ttl_seconds: Seconds = _read(3600.0, "How long a job is kept, from its submission.")
    job_store_url: SecretStr | None = _read(
        None, "Where jobs are kept, sqlite:// or postgresql://; unset: a file of the repository's."
    )
    log_directory: Path | None = _read(None, "Folder for the log of requests; unset: stderr.")

    @field_validator("api_keys", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """Split a list with commas; blanks and empty parts are no keys."""
        if isinstance(value, str):
            return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)
        return value


def variables(name: str) -> tuple[str, ...]:
    """Return the variables that set the field called ``name``, the first one goes first."""
    alias = Settings.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    return (name.upper(),)


def read() -> Settings:
    """Return the settings of the environment.

    Raises ``ConfigError`` naming each variable that is not as it should be.
    """
    try:
        return Settings()
    except ValidationError as error:
        found = [
            f"{_variable(fault['loc'])} is {_shown(fault)}: {fault['msg'].lower()}"
            for fault in error.errors()
        ]
        raise ConfigError("; ".join(found), hint="docs/gateway.md lists what each takes") from None


def _variable(place: tuple[int | str, ...]) -> str:
    return str(place[0]).upper() if place else "the settings"


def _shown(fault: Any) -> str:
    name = _variable(fault["loc"])
    return "secret" if "KEY" in name or "TOKEN" in name else repr(fault.get("input"))
