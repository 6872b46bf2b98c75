"""What was answered before: found again, bounded, and never changed by those who get it."""

import json
from itertools import combinations

import numpy as np
import pytest

from toolkit.errors import ConfigError
from toolkit.gateway.caches import Cache, Key, body_key, key


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def keep(cache: Cache, *names: str, value: float = 1.0) -> None:
    for name in names:
        cache.put(named(name), {"y": np.array([value])}, "1", cache.epoch)


def named(name: str, model: str = "m") -> Key:
    return body_key(model, "1", name.encode())


def test_what_was_put_comes_back_with_its_version() -> None:
    cache = Cache(10, 60)
    cache.put(named("a"), {"y": np.array([[0.5]]), "label": np.array(["ja"], object)}, "3", 0)

    found = cache.get(named("a"))

    assert found is not None
    assert found.version == "3"
    assert found.tensors["y"].tolist() == [[0.5]]
    assert found.tensors["label"].tolist() == ["ja"]
    assert cache.get(named("b")) is None


def test_nobodys_change_reaches_the_cache() -> None:
    cache = Cache(10, 60)
    given = np.zeros(3)
    cache.put(named("a"), {"y": given}, "1", 0)
    given[0] = 7
    first = cache.get(named("a"))
    assert first is not None
    with pytest.raises(ValueError, match="read-only"):
        first.tensors["y"][1] = 7
    first.tensors["y"] = given

    second = cache.get(named("a"))

    assert second is not None
    assert second.tensors["y"].tolist() == [0, 0, 0]


def test_a_row_of_a_large_answer_does_not_hold_the_rest_of_it() -> None:
    cache = Cache(10, 60)
    cache.put(named("a"), {"y": np.zeros((1000, 1000))[3:4]}, "1", 0)

    found = cache.get(named("a"))

    assert found is not None
    assert found.tensors["y"].base is None
    assert cache.statistics().size_bytes < 10_000


def test_an_entry_that_is_too_old_is_a_miss_and_gone() -> None:
    clock = Clock()
    cache = Cache(10, 60, clock)
    keep(cache, "a")
    clock.now = 59.9
    assert cache.get(named("a")) is not None
    clock.now = 60.0

    assert cache.get(named("a")) is None
    assert len(cache) == 0
    statistics = cache.statistics()
    assert (statistics.hits, statistics.misses, statistics.eviction_count) == (1, 1, 0)


def test_what_nobody_asks_for_again_goes_when_it_is_too_old() -> None:
    clock = Clock()
    cache = Cache(10, 1, clock)
    keep(cache, "a", "b")
    clock.now = 61.0
    keep(cache, "c")

    assert len(cache) == 1


def test_the_least_recently_used_makes_room() -> None:
    cache = Cache(2, 60)
    keep(cache, "a", "b")
    cache.get(named("a"))
    keep(cache, "c")

    assert [cache.get(named(name)) is None for name in "abc"] == [False, True, False]
    assert cache.statistics().eviction_count == 1


def test_statistics_do_not_make_an_entry_used() -> None:
    cache = Cache(2, 60)
    keep(cache, "a", "b")
    cache.get(named("a"))
    cache.statistics()
    keep(cache, "c")

    assert cache.get(named("a")) is not None


def test_putting_again_replaces_and_evicts_nobody() -> None:
    cache = Cache(2, 60)
    keep(cache, "a", "b")
    keep(cache, "a", value=2.0)

    found = cache.get(named("a"))
    assert found is not None
    assert found.tensors["y"].tolist() == [2.0]
    assert len(cache) == 2
    assert cache.statistics().eviction_count == 0


def test_it_shrinks_and_grows_while_it_is_used() -> None:
    cache = Cache(4, 60)
    keep(cache, *"abcd")
    cache.resize(2)
    assert [cache.get(named(name)) is None for name in "abcd"] == [True, True, False, False]
    assert cache.statistics().eviction_count == 2

    cache.resize(3)
    keep(cache, "e")
    assert (len(cache), cache.statistics().capacity) == (3, 3)


def test_a_new_age_limit_counts_for_what_is_there() -> None:
    clock = Clock()
    cache = Cache(4, 60, clock)
    keep(cache, "a")
    clock.now = 30
    cache.set_ttl(20)
    assert cache.get(named("a")) is None
    keep(cache, "b")
    clock.now = 60
    cache.set_ttl(100)
    assert cache.get(named("b")) is not None


def test_bytes_are_bounded_too() -> None:
    cache = Cache(1000, 60, max_bytes=100_000)
    for number in range(100):
        cache.put(named(str(number)), {"y": np.zeros(1000)}, "1", 0)

    statistics = cache.statistics()
    assert statistics.size == 100_000 // 8600
    assert statistics.size_bytes <= statistics.max_bytes == 100_000
    assert statistics.eviction_count == 100 - statistics.size
    assert cache.get(named("99")) is not None


def test_one_huge_answer_does_not_drive_out_the_others() -> None:
    cache = Cache(1000, 60, max_bytes=100_000)
    keep(cache, "a")
    cache.put(named("huge"), {"y": np.zeros(2000)}, "1", 0)
    cache.put(named("texts"), {"y": np.array(["x" * 20_000], object)}, "1", 0)

    assert cache.get(named("huge")) is None
    assert cache.get(named("texts")) is None
    assert cache.get(named("a")) is not None


def test_a_reload_forgets_that_model_alone() -> None:
    cache = Cache(10, 60)
    keep(cache, "a", "b")
    cache.put(named("a", "other"), {"y": np.zeros(1)}, "1", cache.epoch)

    assert cache.forget("m") == 2
    assert cache.get(named("a")) is None
    assert cache.get(named("a", "other")) is not None


def test_an_answer_that_was_asked_for_before_a_reload_is_not_kept_after_it() -> None:
    cache = Cache(10, 60)
    before = cache.epoch
    cache.forget("m")
    cache.put(named("a"), {"y": np.zeros(1)}, "1", before)
    assert cache.get(named("a")) is None

    before = cache.epoch
    assert cache.clear() == 0
    cache.put(named("a"), {"y": np.zeros(1)}, "1", before)
    assert cache.get(named("a")) is None


def test_features_are_converted_once_for_one_body_and_one_version() -> None:
    cache = Cache(10, 60)
    body = b'{"features": [[1.5, 2.5]]}'
    conversions = 0

    def convert() -> dict[str, np.ndarray]:
        nonlocal conversions
        conversions += 1
        return {"x": np.array(json.loads(body)["features"])}

    for version in ("1", "1", "2", "2"):
        tensors = cache.made(body_key("m", version, body), version, convert)
        assert tensors["x"].tolist() == [[1.5, 2.5]]

    assert conversions == 2
    assert cache.statistics().hits == 2


def test_features_that_cannot_be_converted_are_not_kept() -> None:
    cache = Cache(10, 60)

    def convert() -> dict[str, np.ndarray]:
        raise ValueError("ragged")

    with pytest.raises(ValueError, match="ragged"):
        cache.made(named("a"), "1", convert)
    assert len(cache) == 0


def test_clearing_leaves_the_statistics() -> None:
    cache = Cache(10, 60)
    keep(cache, "a", "b")
    for name in "aaac":
        cache.get(named(name))
    assert cache.clear() == 2

    assert cache.statistics().as_dict() == {
        "size": 0,
        "capacity": 10,
        "hit_count": 3,
        "miss_count": 1,
        "hit_rate": 0.75,
        "eviction_count": 0,
        "max_size": 10,
        "ttl_seconds": 60,
        "hits": 3,
        "misses": 1,
        "hit_rate_percent": 75.0,
        "size_bytes": 0,
        "max_bytes": 128 << 20,
    }


def test_a_cache_that_was_never_asked_has_a_rate_of_zero() -> None:
    assert Cache(1, 1).statistics().hit_rate == 0.0


@pytest.mark.parametrize("size", [0, -1])
def test_a_cache_for_nothing_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        Cache(size, 60)
    with pytest.raises(ConfigError, match="1 or more"):
        Cache(1, 60).resize(size)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_an_age_of_nothing_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="more than 0 seconds"):
        Cache(1, seconds)
    with pytest.raises(ConfigError, match="more than 0 seconds"):
        Cache(1, 60).set_ttl(seconds)


def texts(*values: object) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


LARGE = np.arange(1000.0)
OTHER_NAN = np.array([0x7FF8000000000001], np.uint64).view(np.float64)

DIFFERENT = [
    key("m", "1", {"x": np.zeros((2, 3))}),
    key("m", "2", {"x": np.zeros((2, 3))}),
    key("other", "1", {"x": np.zeros((2, 3))}),
    key("m", "1", {"z": np.zeros((2, 3))}),
    key("m", "1", {"x": np.zeros((3, 2))}),
    key("m", "1", {"x": np.zeros(6)}),
    key("m", "1", {"x": np.zeros((2, 3), np.int64)}),
    key("m", "1", {"x": np.zeros((2, 6), np.float32)}),
    key("m", "1", {"x": np.zeros((2, 3)), "z": np.zeros((2, 3))}),
    key("m", "1", {"x": -np.zeros((2, 3))}),
    key("m", "1", {"x": np.array([np.nan])}),
    key("m", "1", {"x": OTHER_NAN}),
    key("m", "1", {"x": LARGE}),
    key("m", "1", {"x": np.append(LARGE[:-1], 0)}),
    key("m", "1", {"x": LARGE.reshape(10, 100)}),
    key("m", "1", {"x": LARGE.astype(np.int64)}),
    key("m", "1", {"x": texts("ab", "c")}),
    key("m", "1", {"x": texts("a", "bc")}),
    key("m", "1", {"x": texts("at", "b")}),
    key("m", "1", {"x": texts("a", "tb")}),
    key("m", "1", {"x": texts("abc")}),
    key("m", "1", {"x": texts("ab", "c", "")}),
    key("m", "1", {"x": texts("a" * 2000)}),
    key("m", "1", {"x": texts("a" * 1999 + "b")}),
    key("m", "1", {"x": texts(1)}),
    key("m", "1", {"x": texts(1.0)}),
    key("m", "1", {"x": texts(True)}),
    key("m", "1", {"x": texts(None)}),
    key("m", "1", {"x": texts("None")}),
    key("m", "1", {"x": np.array(["ab"])}),
    key("m", "1", {"x": np.array([b"ab"])}),
    body_key("m", "1", b"{}"),
    body_key("m", "1", b"a" * 2000),
    body_key("m", "1", b"a" * 1999 + b"b"),
]


def test_different_requests_have_different_keys() -> None:
    for one, other in combinations(DIFFERENT, 2):
        assert one != other


@pytest.mark.parametrize("size", [6, 6000])
def test_equal_requests_have_equal_keys_however_they_lie_in_memory(size: int) -> None:
    array = np.arange(size, dtype=np.float32).reshape(2, -1)
    strided = np.repeat(array, 2, axis=1)[:, ::2]
    columns = np.asfortranarray(array)
    expected = key("m", "1", {"x": array, "z": array})

    assert key("m", "1", {"z": strided, "x": columns}) == expected
    assert hash(key("m", "1", {"z": strided, "x": columns})) == hash(expected)


def test_a_text_is_the_same_as_its_bytes() -> None:
    assert key("m", "1", {"x": texts("ö")}) == key("m", "1", {"x": texts("ö".encode())})
    assert key("m", "1", {"x": texts("\udc80")}) != key("m", "1", {"x": texts("\udc81")})


def test_nothing_and_single_numbers_have_keys() -> None:
    assert key("m", "1", {"x": np.zeros((0, 4))}) != key("m", "1", {"x": np.zeros((0, 5))})
    assert key("m", "1", {"x": np.array(1.0)}) == key("m", "1", {"x": np.array(1.0)})
