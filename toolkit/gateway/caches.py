"""Answers and converted features that were there before: bounded in number, bytes and age."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from sys import getsizeof
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
from cachetools import Cache as BaseCache
from cachetools import LRUCache
from numpy.typing import NDArray

from toolkit.errors import ConfigError

Tensors = Mapping[str, NDArray[Any]]
Key = tuple[Hashable, ...]
"""What an entry is found by; its first part is the model's name."""

MAX_BYTES = 128 << 20
"""How many bytes a cache holds at most, whatever the number of its entries."""

_SMALL_BYTES = 1024  # hashing fewer takes longer than comparing them
_ENTRY_BYTES = 600  # what Python keeps for an entry of one small array, beside its numbers
_SHARE = 8
_SWEEP_SECONDS = 60.0


class Kept(NamedTuple):
    """What a cache gives back: arrays that cannot be written to, and whose answer they are."""

    tensors: dict[str, NDArray[Any]]
    version: str


class _Entry(NamedTuple):
    kept: Kept
    since: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What a cache did so far, in both vocabularies of system 1.

    ``hit_rate`` goes from 0 to 1. ``eviction_count`` counts entries that made room for
    others; those that grew too old, were forgotten or cleared are not among them.
    """

    size: int
    capacity: int
    hit_count: int
    miss_count: int
    hit_rate: float
    eviction_count: int
    max_size: int
    ttl_seconds: float
    hits: int
    misses: int
    hit_rate_percent: float
    size_bytes: int
    max_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by their names."""
        return asdict(self)


class _Recent(LRUCache[Key, _Entry]):
    """The least recently used entries go first when the bytes are too many; it counts them."""

    evictions = 0

    def popitem(self) -> tuple[Key, _Entry]:
        self.evictions += 1
        return super().popitem()


class Cache:
    """Arrays by ``key`` or ``body_key``; for one event loop.

    An entry is as good as gone ``ttl_seconds`` after it was put there. The least recently used
    ones make room where entries are more than ``max_size`` or bytes more than ``max_bytes``;
    what alone takes more than an eighth of the bytes is not kept. ``clock`` gives seconds.
    """

    def __init__(
        self,
        max_size: int,
        ttl_seconds: float,
        clock: Callable[[], float] = monotonic,
        *,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._max_size = _at_least_one(max_size)
        self._ttl_seconds = _positive(ttl_seconds)
        self._clock = clock
        self._entries = _Recent(_at_least_one(max_bytes), getsizeof=_size_of_entry)
        self._hits = self._misses = 0
        self._epoch = 0
        self._swept = clock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def epoch(self) -> int:
        """Changes whenever something is forgotten: read it before you ask a model."""
        return self._epoch

    def get(self, key: Key) -> Kept | None:
        """Return what was put under ``key``, or None; the mapping is the caller's own."""
        entry = self._entries.get(key)
        if entry is None:
            self._misses += 1
            return None
        if self._clock() - entry.since >= self._ttl_seconds:
            del self._entries[key]
            self._misses += 1
            return None
        self._hits += 1
        tensors, version = entry.kept
        return Kept(tensors.copy(), version)

    def put(self, key: Key, tensors: Tensors, version: str, epoch: int) -> None:
        """Keep copies of ``tensors``.

        ``epoch`` is the one read before they were asked for: if something was forgotten since,
        they may come from a model that is served no more and are not kept.
        """
        if epoch != self._epoch:
            return
        size_bytes = _ENTRY_BYTES + _key_bytes(key) + sum(map(_array_bytes, tensors.values()))
        if size_bytes * _SHARE > self._entries.maxsize:
            return
        now = self._clock()
        if now - self._swept >= _SWEEP_SECONDS:
            self._sweep()
        if key not in self._entries and len(self._entries) >= self._max_size:
            self._entries.popitem()
        own = {name: _frozen(array) for name, array in tensors.items()}
        self._entries[key] = _Entry(Kept(own, version), now, size_bytes)

    def made(self, key: Key, version: str, make: Callable[[], Tensors]) -> Tensors:
        """Return what is kept under ``key``, else what ``make`` returns, and keep that."""
        found = self.get(key)
        if found is not None:
            return found.tensors
        tensors = make()
        self.put(key, tensors, version, self._epoch)
        return tensors

    def resize(self, max_size: int) -> None:
        """Hold at most so many entries from now on; the least recently used ones go."""
        self._max_size = _at_least_one(max_size)
        while len(self._entries) > max_size:
            self._entries.popitem()

    def set_ttl(self, seconds: float) -> None:
        """Let entries grow so old from now on, those too that are there already."""
        self._ttl_seconds = _positive(seconds)

    def clear(self) -> int:
        """Forget everything; return how many entries that were. Statistics stay."""
        self._epoch += 1
        count = len(self._entries)
        self._entries.clear()
        return count

    def forget(self, model: str) -> int:
        """Forget what has to do with ``model``; return how many entries that were.

        To be called once the model is loaded anew: what was asked of it before then is not
        kept even if it comes later.
        """
        self._epoch += 1
        gone = [key for key in self._entries if key[0] == model]
        for key in gone:
            del self._entries[key]
        return len(gone)

    def statistics(self) -> CacheStatistics:
        """Return what the cache did so far, and holds now that is not too old."""
        self._sweep()
        hits, misses = self._hits, self._misses
        rate = hits / (hits + misses) if hits + misses else 0.0
        return CacheStatistics(
            size=len(self._entries),
            capacity=self._max_size,
            hit_count=hits,
            miss_count=misses,
            hit_rate=rate,
            eviction_count=self._entries.evictions,
            max_size=self._max_size,
            ttl_seconds=self._ttl_seconds,
            hits=hits,
            misses=misses,
            hit_rate_percent=100 * rate,
            size_bytes=int(self._entries.currsize),
            max_bytes=int(self._entries.maxsize),
        )

    def _sweep(self) -> None:
        self._swept = now = self._clock()
        oldest = now - self._ttl_seconds
        # As the base class reads: else each would become the most recently used.
        entries = self._entries
        for key in [key for key in entries if BaseCache.__getitem__(entries, key).since <= oldest]:
            del entries[key]


def key(model: str, version: str, tensors: Tensors) -> Key:
    """Return what stands for these arrays asked of this model.

    Same names, data types, shapes and bytes, in whatever order of names; NaNs count by their
    bytes, texts as UTF-8.
    """
    parts: list[Hashable] = [model, version]
    names = tensors if len(tensors) == 1 else sorted(tensors)
    for name in names:
        array = tensors[name]
        parts += (name, array.dtype, array.shape, _content(array))
    return tuple(parts)


def body_key(model: str, version: str, body: bytes) -> Key:
    """Return what stands for the body of a request to this model."""
    content = body if len(body) <= _SMALL_BYTES else (_digest(body),)
    return (model, version, content)


def _content(array: NDArray[Any]) -> Hashable:
    """Return the bytes, or for many their digest; a tuple, which no bytes can be equal to."""
    if array.dtype.hasobject:
        data = b"".join(map(_text, array.ravel().tolist()))
    elif array.nbytes <= _SMALL_BYTES:
        return array.tobytes()
    else:
        whole = np.ascontiguousarray(array)
        return (_digest(whole.reshape(-1).view(np.uint8).data),)
    return data if len(data) <= _SMALL_BYTES else (_digest(data),)


def _text(value: object) -> bytes:
    """Return an element with its length before it, so that its neighbour cannot lend to it."""
    if isinstance(value, str):
        data = b"t" + value.encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes):
        data = b"t" + value
    else:
        data = f"{type(value).__name__} {value!r}".encode("utf-8", "surrogatepass")
    return b"%d:%b" % (len(data), data)


def _digest(data: bytes | memoryview) -> bytes:
    return sha256(data).digest()


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy: a part of a joined answer would hold on to the whole."""
    own = np.array(array, order="C")
    own.flags.writeable = False
    return own


def _array_bytes(array: NDArray[Any]) -> int:
    if array.dtype.hasobject:
        return array.nbytes + sum(map(getsizeof, array.ravel().tolist()))
    return array.nbytes


def _key_bytes(key: Key) -> int:
    return sum(len(part) for part in key if isinstance(part, bytes))


def _size_of_entry(entry: _Entry) -> int:
    return entry.size_bytes


def _at_least_one(count: int) -> int:
    if count < 1:
        raise ConfigError(f"a cache holds 1 or more, not {count}")
    return count


def _positive(seconds: float) -> float:
    if not seconds > 0:
        raise ConfigError(f"a cache keeps what it has for more than 0 seconds, not {seconds}")
    return seconds
