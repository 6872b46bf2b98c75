"""Messages are read for their model's name exactly as protobuf reads them."""

import random
import time

import pytest
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from toolkit.gateway.exchange import Refused
from toolkit.gateway.v2_messages import fields, is_control, model_of

TENSOR = pb.ModelInferRequest(raw_input_contents=[bytes(1 << 20)]).SerializeToString()


def infer(model: str, version: str = "") -> bytes:
    message = pb.ModelInferRequest(model_name=model, model_version=version, id="7")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    message.parameters["priority"].uint64_param = 2**63
    message.raw_input_contents.append(bytes(16))
    written: bytes = message.SerializeToString()
    return written


@pytest.mark.parametrize(
    ("method", "message", "model"),
    [
        ("ModelInfer", infer("a"), ("a", "")),
        ("ModelStreamInfer", infer("a", "3"), ("a", "3")),
        ("ModelInfer", infer("é" * 100), ("é" * 100, "")),
        ("ModelReady", pb.ModelReadyRequest(name="a", version="2").SerializeToString(), ("a", "2")),
        ("ModelStatistics", b"", None),
        (
            "RepositoryModelLoad",
            pb.RepositoryModelLoadRequest(
                repository_name="here", model_name="a"
            ).SerializeToString(),
            ("a", ""),
        ),
        ("TraceSetting", pb.TraceSettingRequest(model_name="a").SerializeToString(), ("a", "")),
        ("ServerLive", b"anything", None),
        ("RepositoryIndex", pb.RepositoryIndexRequest(ready=True).SerializeToString(), None),
    ],
)
def test_a_message_names_its_model(
    method: str, message: bytes, model: tuple[str, str] | None
) -> None:
    assert model_of(method, message) == model


def test_the_last_of_two_names_counts_wherever_it_stands() -> None:
    message = infer("allowed") + TENSOR + infer("forbidden")
    assert pb.ModelInferRequest.FromString(message).model_name == "forbidden"
    assert model_of("ModelInfer", message) == ("forbidden", "")


def test_whatever_protobuf_reads_is_read_alike_and_the_rest_refused_or_nameless() -> None:
    random.seed(7)
    whole = infer("model", "12")
    agreed = 0
    for _ in range(10_000):
        spoilt = bytearray(whole)
        for _ in range(random.randint(1, 3)):
            spoilt[random.randrange(len(spoilt))] = random.choice([0, 8, 10, 18, 127, 128, 255])
        message = bytes(spoilt[: random.randint(0, len(spoilt))])
        try:
            read = pb.ModelInferRequest.FromString(message)
        except DecodeError:
            continue
        try:
            found = model_of("ModelInfer", message)
        except Refused:
            continue  # stricter than protobuf, which skips groups
        agreed += 1
        assert found == ((read.model_name, read.model_version) if read.model_name else None)
    assert agreed > 500


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\x02\xff\xfe",
        b"\xff" * 20,
        b"\xff" * (1 << 20),
        b"\x08" + b"\xff" * (1 << 20),
        b"\x10\x00" * 10_001,
        b"\x10\x00" * (2 << 20),
        b"\x0b\x0c",
    ],
    ids=["no length", "short", "no UTF-8", "tag", "endless tag", "endless number", "10,001 fields",
         "millions of fields", "group"],
)  # fmt: skip
def test_what_is_no_message_is_refused_without_much_work(message: bytes) -> None:
    began = time.process_time()
    with pytest.raises(Refused, match="no message of the V2 protocol") as caught:
        model_of("ModelInfer", message)
    assert caught.value.status == 400
    assert time.process_time() - began < 1


def test_tensors_are_not_copied() -> None:
    message = infer("a") + TENSOR * 64  # 64 MiB
    began = time.process_time()
    assert fields(message, 1) == {1: b"a"}
    assert time.process_time() - began < 0.05


def test_settings_are_controls_only_when_they_change_something() -> None:
    for kind, method in (
        (pb.TraceSettingRequest, "TraceSetting"),
        (pb.LogSettingsRequest, "LogSettings"),
    ):
        assert not is_control(method, kind().SerializeToString())
        change = kind()
        change.settings[""].SetInParent()
        assert is_control(method, change.SerializeToString())
    assert is_control("RepositoryModelUnload", b"")
    assert is_control("CudaSharedMemoryRegister", b"")
    assert not is_control("ModelInfer", infer("a"))
    assert not is_control("RepositoryIndex", b"")
