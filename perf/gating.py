"""Record a baseline, and hold what is served now against one."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from perf import baseline as baselines
from perf import comparing, configuration, machine, sides
from perf.analyzer import Distribution, Settings
from perf.baseline import Baseline
from perf.comparing import Comparison, Plan, Told
from perf.input_data import MADE_UP
from perf.sides import Asked, Measure
from perf.target import Target
from toolkit.errors import ConfigError

Telling = Callable[[Mapping[str, Asked]], AbstractContextManager[Told]]
"""Gives what is told of each turn, for the sides by their letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a gate needs beside the baseline."""

    target: Target
    plan: Plan
    measure: Measure
    telling: Telling


def record(
    gate: Gate, model: str, settings: Settings, input_data: tuple[str, str] | None
) -> Baseline:
    """Measure ``model`` as it is served, and return that as a baseline."""
    asked = Asked(name=model, model=model)
    with gate.target.client() as client:
        config = dict(client.config(model))
        version = _newest(client.metadata(model).versions)
        server = machine.server(client)
    with (
        sides.opened([asked], lambda _: gate.target, gate.measure) as (side,),
        gate.telling({"A": asked}) as told,
    ):
        measured = comparing.sample(side, gate.plan, told)
    return Baseline(
        model=model,
        version=version,
        metric=gate.plan.metric,
        configuration=config,
        measurements=measured,
        settings=asdict(settings),
        machine=machine.machine(),
        server=server,
        files=baselines.entry_hash(gate.target.entry, version),
        input_data=input_data,
    )


def hold(gate: Gate, baseline: Baseline, *, recorded: bool, other_machine: bool) -> Comparison:
    """Compare what is served now with ``baseline``.

    Both are measured in turns where the baseline can be served again and ``recorded`` does
    not say otherwise. Recorded figures of another machine raise ``ConfigError`` unless
    ``other_machine``.
    """
    reason = "--recorded" if recorded else baselines.why_not_again(baseline, gate.target.entry)
    with gate.target.client() as client:
        served = dict(client.config(baseline.model))
        version = _newest(client.metadata(baseline.model).versions)
        server = machine.server(client)
    now = Asked(name=f"{baseline.model} now (version {version})", model=baseline.model)
    same = configuration.same(baseline.configuration, served) and version == baseline.version
    notes = _news(baseline, server, same=same)
    if reason is None:
        then = None if same else baseline.again(version)
        return replace(_in_turns(gate, baseline, then, now), notes=tuple(notes))
    difference = baselines.other_machine(baseline.machine, machine.machine())
    if difference and not other_machine:
        raise ConfigError(
            f"the baseline is of another machine ({difference}), and cannot be measured again:"
            f" {reason}",
            hint="toolkit perf gate MODEL --save FILE on this machine; or --other-machine",
        )
    notes.append(
        f"against figures recorded on {baseline.recorded} ({reason}):"
        " what the machine does otherwise today is part of the difference"
    )
    if difference:
        notes.append(f"the figures are of another machine: {difference}")
    return replace(_with_recorded(gate, baseline, now), notes=tuple(notes))


def settings_of(baseline: Baseline) -> Settings:
    """Return how the baseline was measured; raise ``ConfigError`` for what is not known."""
    given = dict(baseline.settings)
    try:
        given["distribution"] = Distribution(given["distribution"])
        return Settings(**given)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the baseline was measured with settings that are not known here: {error}",
            hint="record it again: toolkit perf gate MODEL --save FILE",
        ) from error


def input_data(given: str | None) -> tuple[str, str] | None:
    """Return ``--input-data`` with a hash of what it names, for a baseline."""
    if given is None or given in MADE_UP:
        return None if given is None else (given, "")
    path = Path(given)
    if path.is_dir():
        return given, baselines.files_hash(path)
    if not path.is_file():
        raise ConfigError(f"there is no {path}", hint="--input-data FILE")
    return given, sha256(path.read_bytes()).hexdigest()


def same_input_data(baseline: Baseline) -> str | None:
    """Return the baseline's ``--input-data``; raise ``ConfigError`` if it is other data now."""
    if baseline.input_data is None:
        return None
    given, before = baseline.input_data
    if input_data(given) != (given, before):
        raise ConfigError(
            f"{given} is not the input data of the baseline any more",
            hint="bring it back, or record the baseline again",
        )
    return given


def _in_turns(
    gate: Gate, baseline: Baseline, config: Mapping[str, Any] | None, now: Asked
) -> Comparison:
    then = Asked(name=_name(baseline), model=baseline.model, configuration=config)
    with (
        sides.opened([then, now], lambda _: gate.target, gate.measure) as (a, b),
        gate.telling({"A": then, "B": now}) as told,
    ):
        return comparing.compare(a, b, gate.plan, told)


def _with_recorded(gate: Gate, baseline: Baseline, now: Asked) -> Comparison:
    with (
        sides.opened([now], lambda _: gate.target, gate.measure) as (side,),
        gate.telling({"B": now}) as told,
    ):
        return comparing.against(baseline.measurements, side, gate.plan, told, _name(baseline))


def _news(baseline: Baseline, server: Mapping[str, Any], *, same: bool) -> list[str]:
    """Say what is other than it was beside the model, and if the model is not."""
    news = []
    if dict(server) != dict(baseline.server):
        was, now = (f"{one.get('name')} {one.get('version')}" for one in (baseline.server, server))
        news.append(f"the server was {was} and is {now}")
    if same:
        news.append("the version and the configuration are those of the baseline")
    return news


def _name(baseline: Baseline) -> str:
    return f"the baseline (version {baseline.version})"


def _newest(versions: Sequence[str]) -> str:
    return max(versions, key=int)
