"""What the engine's routes take and give, as it is published."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from toolkit.gateway.engine.loading import MODEL_TYPES

_ROW = [0.1, 0.2, 0.3, 0.4]
_STAMP = "2026-01-31T12:00:00.000000"
Text = Annotated[str, StringConstraints(max_length=4096)]


class _Shown(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class ModelLoadRequest(_Shown):
    """A model file to serve."""

    model_path: Text = Field(
        min_length=1,
        description="Relative to MODEL_DIR, or absolute and inside it.",
        examples=["churn.onnx"],
    )
    model_type: str | None = Field(
        None,
        description="What the file holds; found out where it is not said.",
        json_schema_extra={"enum": [*MODEL_TYPES, None]},
        examples=["sklearn"],
    )
    compile_model: bool | None = Field(
        None,
        description="false: the original itself answers, where it can; else it is converted to"
        " ONNX where that is proven to answer the same.",
    )
    sample_path: Text | None = Field(
        None,
        description="Rows to prove the conversion with, for a model that does not say what it"
        " takes: .npy .npz .csv .parquet .jsonl .json, in MODEL_DIR. Without it,"
        " NAME.sample.csv and the like beside the model.",
    )

    @field_validator("model_type")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is None:
            return None
        folded = value.casefold()
        if folded not in MODEL_TYPES:
            raise ValueError(f"model_type must be one of {', '.join(MODEL_TYPES)}")
        return folded


class ModelInfo(_Shown):
    """What is known of a loaded model."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model_type: str
    input_features: int | None
    output_shape: list[int]


class ModelLoaded(_Shown):
    """A model that is served now."""

    success: bool
    message: str = Field(examples=["Model loaded successfully"])
    model_path: str
    model_type: str
    model_info: ModelInfo


class Done(_Shown):
    """That something was done."""

    success: bool
    message: str


class Restarted(Done):
    """That the engine was restarted."""

    state: str = Field(examples=["READY"])


class Validation(_Shown):
    """What a look at the model found."""

    success: bool
    model_type: str
    results: dict[str, Any]
    timestamp: str = Field(examples=[_STAMP])


class Root(_Shown):
    """What answers here."""

    name: str
    version: str
    description: str
    status: str
    docs_url: str
    message: str


class Health(_Shown):
    """How the gateway and its engine are."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    status: Literal["healthy", "unhealthy"]
    state: str
    uptime_seconds: float
    model_loaded: bool
    active_requests: int
    model_info: ModelInfo | None
    timestamp: str = Field(examples=[_STAMP])


class InferenceRequest(_Shown):
    """Rows to predict."""

    features: list[Any] = Field(
        description="One list of values a row; a text a row for models that take texts.",
        min_length=1,
        examples=[[_ROW]],
    )
    request_id: Text | None = Field(None, examples=["my-request-1"])

    @field_validator("features", mode="before")
    @classmethod
    def _some(cls, value: Any) -> Any:
        if value == []:
            raise ValueError("features cannot be empty")
        return value


class InferenceResponse(_Shown):
    """An answer: ``predictions``, one list a row, or why there are none."""

    request_id: str
    success: bool
    predictions: list[Any] | None = Field(examples=[[[0.95]]])
    error: str | None
    metadata: dict[str, Any] = Field(examples=[{"inference_time_ms": 0.6}])
    timestamp: str = Field(examples=[_STAMP])


class BatchInferenceRequest(_Shown):
    """Several requests at once."""

    batch: list[list[Any]] = Field(min_length=1, examples=[[[[0.1, 0.2]], [[0.3, 0.4]]]])
    request_ids: list[Text] | None = Field(None, examples=[["id1", "id2"]])

    @model_validator(mode="after")
    def _as_many(self) -> "BatchInferenceRequest":
        if self.request_ids is not None and len(self.request_ids) != len(self.batch):
            raise ValueError("If provided, request_ids must have the same length as batch")
        return self


class BatchInferenceResponse(_Shown):
    """One answer for each item."""

    batch_id: str
    results: list[InferenceResponse]
    metadata: dict[str, float]
    timestamp: str = Field(examples=[_STAMP])


class ImportanceRequest(InferenceRequest):
    """A row to explain: the first of ``features``."""

    method: Literal["perturbation", "exact"] = Field(
        "perturbation",
        description="exact: each column's own part of the raw answer, which XGBoost, LightGBM,"
        " CatBoost and linear models can tell.",
    )


class Importance(_Shown):
    """Each column's share, the largest first."""

    success: bool
    feature_importance: dict[str, float] = Field(examples=[{"feature_1": 0.7, "feature_0": 0.3}])
    baseline_prediction: list[Any] = Field(examples=[[0.75]])
    timestamp: str = Field(examples=[_STAMP])
    method: str = "perturbation"
    contributions: dict[str, float] | None = Field(
        None, description="With method exact: the parts themselves, with their signs."
    )
    base_value: float | None = Field(None, description="What the parts are added to.")
    source: str | None = Field(None, description="What told the parts.")


class EngineConfigRequest(_Shown):
    """Settings to change; what is null or left out stays."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    enable_batching: bool | None = None
    max_batch_size: int | None = Field(None, ge=1, le=1 << 20)
    batch_timeout: float | None = Field(None, ge=0, le=60, description="In seconds.")
    enable_cache: bool | None = None
    max_cache_entries: int | None = Field(None, ge=1, le=10**8)
    cache_ttl_seconds: float | None = Field(None, gt=0, le=10**9)
    enable_quantization: bool | None = None
    num_threads: int | None = Field(None, ge=1, le=256)
    enable_throttling: bool | None = None
    max_concurrent_requests: int | None = Field(None, ge=1, le=10**6)


class EngineConfig(_Shown):
    """The engine's settings."""

    enable_batching: bool
    max_batch_size: int
    batch_timeout: float
    enable_cache: bool
    max_cache_entries: int
    cache_ttl_seconds: float
    enable_quantization: bool
    num_threads: int
    enable_throttling: bool
    max_concurrent_requests: int


class ConfigUpdated(_Shown):
    """The settings as they are now; ``notes`` say which have to wait for what."""

    success: bool
    message: str
    updated_parameters: dict[str, Any] = Field(examples=[{"max_batch_size": 128}])
    current_config: EngineConfig
    notes: list[str] = []
