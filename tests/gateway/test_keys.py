"""Who may ask: with a key from the environment or from a file that may change at any time."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from toolkit.errors import ConfigError
from toolkit.gateway.exchange import Refused
from toolkit.gateway.keys import Key, Keys, new_key, read
from toolkit.gateway.rates import Rate
from toolkit.gateway.settings import Settings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def write(file: Path, *entries: Any) -> None:
    """Write a new file beside the old one and put it in its place, as an editor does."""
    beside = file.with_suffix(".new")
    beside.write_text(yaml.safe_dump(list(entries)))
    beside.replace(file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    write(path, {"id": "first", "sha256": digest("one")})
    return path


def refused(ask: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as found:
        ask()
    return found.value


def identify(keys: Keys, key: str) -> Key:
    found = keys.identify({b"x-api-key": key.encode()})
    assert found is not None
    return found


def test_each_key_of_the_environment_opens_by_either_header() -> None:
    keys = Keys(["one", "two"])
    assert keys.identify({b"x-api-key": b"one"}) == Key("env-1")
    assert keys.identify({b"authorization": b"Bearer two"}) == Key("env-2")
    assert keys.identify({b"authorization": b"bearer  two "}) == Key("env-2")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"x-api-key": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Basic b25lOnR3bw=="},
        {b"authorization": b"one"},
    ],
)
def test_no_key_is_401_and_says_how_to_give_one(headers: dict[bytes, bytes]) -> None:
    refusal = refused(lambda: Keys(["one"]).identify(headers))
    assert (refusal.status, refusal.detail) == (401, "Missing API key")
    assert refusal.headers == ((b"www-authenticate", b"Bearer"),)


@pytest.mark.parametrize("key", [b"on", b"one ", b"ONE", b"\xff\xfe", b"x" * 60_000])
def test_a_wrong_key_is_403_and_is_not_repeated(key: bytes) -> None:
    refusal = refused(lambda: Keys(["one"]).identify({b"x-api-key": key}))
    assert (refusal.status, refusal.detail) == (403, "Invalid API key")


def test_nobody_is_asked_where_no_key_is_required(tmp_path: Path) -> None:
    keys = Keys(["one"], tmp_path / "none.yaml", required=False)
    assert keys.identify({}) is None
    assert keys.identify({b"x-api-key": b"wrong"}) is None


def test_keys_required_and_none_there_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no API key"):
        Keys(["", ""])
    with pytest.raises(ConfigError, match="cannot be read"):
        Keys(["one"], tmp_path / "none.yaml")


def test_the_settings_of_the_environment_are_taken(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setenv("API_KEYS", "a, b,,")
    monkeypatch.setenv("API_KEYS_FILE", str(file))
    monkeypatch.setenv("REQUIRE_API_KEY", "1")
    keys = Keys.of(Settings())
    assert [identify(keys, key).id for key in ("a", "b", "one")] == ["env-1", "env-2", "first"]
    assert len(keys) == 3


def test_an_entry_may_limit_the_rate_the_models_and_the_time(file: Path) -> None:
    write(
        file,
        {
            "id": "reports",
            "sha256": digest("one").upper(),
            "rate": "100/60",
            "models": ["churn", "fraud-*"],
            "expires": "2999-01-31",
        },
    )
    key = identify(Keys(file=file), "one")
    assert (key.id, key.rate) == ("reports", Rate(100, 60.0))
    key.check_model("churn")
    key.check_model("fraud-eu")
    for other in ("churn2", "Churn", "a-fraud-eu", "", "churn\n"):
        with pytest.raises(Refused) as refusal:
            key.check_model(other)
        assert refusal.value.status == 403
        assert refusal.value.detail == f"API key reports may not use model {other}"


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("given", ["2999-01-31", "2999-01-31T00:00:00Z", "2999-01-31T02:00+02:00"])
def test_a_date_is_its_first_moment_in_utc(file: Path, given: str, in_tokyo: None) -> None:
    entry = f"- {{id: a, sha256: {digest('one')}, expires: %s}}"
    for text in (given, f'"{given}"'):
        file.write_text(entry % text)
        assert identify(Keys(file=file), "one").expires == 32474736000.0


def test_an_expired_key_is_403_and_says_so(file: Path) -> None:
    write(file, {"id": "old", "sha256": digest("one"), "expires": "2020-01-01"})
    refusal = refused(lambda: identify(Keys(file=file), "one"))
    assert (refusal.status, refusal.detail) == (403, "API key expired")


def test_json_is_read_as_well(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps([{"id": "a", "sha256": digest("one")}], indent="\t"))
    assert identify(Keys(file=file), "one").id == "a"


def test_a_new_key_fits_its_entry_and_no_two_are_alike(file: Path) -> None:
    made = [new_key(f"k{n}", rate="5/1", models=["churn"], expires="2999-01-31") for n in range(3)]
    write(file, *(entry for _, entry in made))
    keys = Keys(file=file)
    for number, (key, entry) in enumerate(made):
        assert key not in json.dumps(entry)
        assert len(key) >= 40
        assert identify(keys, key).id == f"k{number}"
    assert len({key for key, _ in made}) == 3


@pytest.mark.parametrize("wrong", [{"key_id": "a b"}, {"key_id": "a", "rate": "fast"}])
def test_no_key_is_made_that_the_file_could_not_hold(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        new_key(**wrong)


SECRET = "s3cr3t-key-that-must-not-be-shown"


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"- {SECRET}",
        f"{SECRET}: yes",
        f"- {SECRET}: yes",
        f"- {{id: a, key: {SECRET}}}",
        f"- {{id: a, sha256: {SECRET}}}",
        f"- {{id: a, sha256: {digest('x')}, rate: {SECRET}}}",
        f"- {{id: a, sha256: {digest('x')}, models: {SECRET}}}",
        f"- {{id: a, sha256: {digest('x')}, models: [[{SECRET}]]}}",
        f"- {{id: a, sha256: {digest('x')}, models: []}}",
        f"- {{id: a, sha256: {digest('x')}, expires: {SECRET}}}",
        f"- {{id: a, sha256: {digest('x')}, expires: 2027-02-30}}",
        f"- {{id: [{SECRET}], sha256: {digest('x')}}}",
        f"- {{id: '{SECRET} !', sha256: {digest('x')}}}",
        f"- *{SECRET}",
        f"- !{SECRET} x",
        f"- [{SECRET}",
        f"%{SECRET}",
        f"- {{id: a, sha256: {digest('x')}}}\n- {{id: a, sha256: {digest('y')}}}",
        f"- {{id: a, sha256: {digest('x')}}}\n- {{id: b, sha256: {digest('x')}}}",
        "",
        "a: b",
        "\0",
    ],
)
def test_a_file_that_is_not_right_is_refused_without_showing_what_is_in_it(
    file: Path, text: str
) -> None:
    file.write_text(text)
    for suffix in (".yaml", ".json"):
        file = file.rename(file.with_suffix(suffix))
        with pytest.raises(ConfigError, match=r"keys\.") as error:
            read(file)
        assert SECRET not in f"{error.value}{error.value.hint}"
        assert error.value.__suppress_context__ or error.value.__context__ is None


def test_a_plain_key_is_refused_with_the_way_to_hash_it(file: Path) -> None:
    write(file, {"id": "a", "key": SECRET})
    with pytest.raises(ConfigError, match=r"entry 1: fields are") as error:
        read(file)
    assert "sha256sum" in str(error.value.hint)


def test_the_same_key_in_both_places_is_an_error(file: Path) -> None:
    with pytest.raises(ConfigError, match="the same"):
        Keys(["one"], file)


def test_keys_change_without_a_restart_within_a_second(file: Path, clock: Clock) -> None:
    keys = Keys(["env"], file, clock=clock)
    assert identify(keys, "one").id == "first"
    write(file, {"id": "second", "sha256": digest("two")})
    assert identify(keys, "one").id == "first", "looked at once a second, not more"
    clock.now += 1
    assert identify(keys, "two").id == "second"
    assert refused(lambda: identify(keys, "one")).status == 403
    assert identify(keys, "env").id == "env-1"


def test_a_file_without_keys_takes_them_all_away(file: Path, clock: Clock) -> None:
    keys = Keys(file=file, clock=clock)
    write(file)
    clock.now += 1
    assert refused(lambda: identify(keys, "one")).status == 403


@pytest.mark.parametrize("text", ["", "- {id: b", f"- {SECRET}", None])
def test_a_broken_new_file_keeps_the_former_keys_and_is_logged_once(
    file: Path, clock: Clock, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    keys = Keys(file=file, clock=clock)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            clock.now += 1
            assert identify(keys, "one").id == "first"
        assert len(caplog.records) == 1
        assert "the former keys stay" in caplog.text
        write(file, {"id": "second", "sha256": digest("one")})
        clock.now += 1
        assert identify(keys, "one").id == "second"
    assert SECRET not in caplog.text


def test_the_file_is_looked_at_at_most_once_a_second(
    file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(file=file, clock=clock)
    looks = 0
    stat = Path.stat

    def counted(path: Path, **options: Any) -> os.stat_result:
        nonlocal looks
        looks += path == file
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", counted)
    for _ in range(1000):
        clock.now += 0.01
        identify(keys, "one")
    assert 9 <= looks <= 10


def test_no_key_is_kept_or_shown(file: Path) -> None:
    keys = Keys([SECRET], file)
    assert SECRET not in repr(keys) + repr(vars(keys))
    assert SECRET not in repr(identify(keys, SECRET))
