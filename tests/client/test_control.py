"""What the client asks of a server besides answers, the same on both wires."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.client import Client, IndexedModel, TensorMetadata
from toolkit.deploy.state import Server
from toolkit.errors import InvalidInputError, ServerError, UnknownModelError

Talk = Callable[[Callable[[socket.socket], None]], str]


def test_the_server_says_who_it_is(client: Client) -> None:
    about = client.server_metadata()

    assert about.name == "triton"
    assert "binary_tensor_data" in about.extensions


def test_live_and_model_ready_are_answered_for_known_and_unknown(client: Client) -> None:
    assert client.is_live()
    assert client.is_model_ready("echo")
    assert client.is_model_ready("echo", 1)
    assert not client.is_model_ready("echo", 7)
    assert not client.is_model_ready("nobody")


def test_nobody_there_is_neither_live_nor_ready(scheme: str, talk: Talk) -> None:
    host = talk(lambda connection: connection.close())
    with Client(f"{scheme}://{host}", timeout=5) as client:
        assert not client.is_live()
        assert not client.is_ready()
        assert not client.is_model_ready("echo")


def test_metadata_names_inputs_and_outputs_with_their_shapes(client: Client) -> None:
    metadata = client.metadata("echo")

    assert metadata.inputs == (TensorMetadata("x", "FP32", (-1, 4)),)
    assert metadata.outputs == (
        TensorMetadata("y", "FP32", (-1, 4)),
        TensorMetadata("rows", "INT64", (-1, 1)),
    )
    assert metadata.versions == ("1",)


@pytest.mark.parametrize("model", ["echo", "text", "people", "types", "unbatched"])
def test_both_wires_tell_the_same_of_a_model(server: Server, model: str) -> None:
    with Client(server.http_url) as http, Client(server.grpc_url) as grpc:
        assert http.metadata(model) == grpc.metadata(model)
        assert http.config(model) == grpc.config(model)
        assert http.statistics(model) == grpc.statistics(model)
        assert http.server_metadata() == grpc.server_metadata()


def test_both_wires_tell_the_same_of_the_repository(server: Server) -> None:
    with (
        Client(server.http_url, token=server.token) as http,
        Client(server.grpc_url, token=server.token) as grpc,
    ):
        index = http.repository_index()
        assert index == grpc.repository_index()
    assert IndexedModel("echo", "1", "READY", "") in index


def test_statistics_count_what_the_model_did(client: Client) -> None:
    before = client.statistics("echo")[0]["inference_count"]
    client.predict("echo", [[0, 0, 0, 0]])

    assert client.statistics("echo")[0]["inference_count"] == before + 1


def test_a_model_can_be_unloaded_and_loaded(control: Client) -> None:
    control.unload("text")
    with pytest.raises(UnknownModelError, match="'text'"):
        control.predict("text", "gone")
    control.load("text")

    assert control.predict("text", "back")["text"].tolist() == [["back"]]


def test_a_model_that_changed_behind_the_clients_back_is_asked_anew(
    control: Client, client: Client, server: Server
) -> None:
    config = Path(server.repository) / "changing" / "config.pbtxt"
    control.load("changing")
    assert client.predict("changing", [1, 2])["y"].shape == (1, 2)

    narrow = config.read_text()
    try:
        config.write_text(narrow.replace("dims: [ 2 ]", "dims: [ 3 ]"))
        control.load("changing")

        assert client.predict("changing", [1, 2, 3])["y"].shape == (1, 3)
        with pytest.raises(InvalidInputError, match=r"\[-1, 3\]"):
            client.predict("changing", [1, 2])
    finally:
        config.write_text(narrow)


def test_a_model_is_loaded_under_another_configuration_and_back(control: Client) -> None:
    served = dict(control.config("echo"))

    # Triton prefers batches of max_batch_size unless told, and refuses to prefer larger ones.
    smaller = {**served, "max_batch_size": 2, "dynamic_batching": {}}
    control.load("echo", config=smaller)
    try:
        assert int(control.config("echo")["max_batch_size"]) == 2
    finally:
        control.load("echo", config=served)
    assert control.config("echo")["max_batch_size"] == served["max_batch_size"]


def test_a_configuration_that_cannot_be_served_leaves_the_model_as_it_is(control: Client) -> None:
    served = dict(control.config("echo"))

    with pytest.raises(ServerError):
        control.load("echo", config={**served, "backend": "nobody"})
    assert control.config("echo") == served
    assert control.is_model_ready("echo")
