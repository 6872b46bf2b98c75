"""The search for the configuration that serves best: Optuna proposes, the server disposes.

Each proposal is loaded and measured once. The best few are then measured again, in turns
with the configuration as served, because the best of many noisy figures flatters itself.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from perf import space as spaces
from perf.candidates import AS_SERVED, Candidate
from perf.goals import Goal
from perf.journal import Point
from perf.measurement import Load
from perf.space import Space
from perf.trials import Trials
from toolkit.errors import MissingDependencyError

_FINALISTS = 2
_ROUNDS = 2
_PATIENCE = 12
_WORTHWHILE = 0.01
_REPEATS = 50
_OPTUNAS_TURN = 3
_FAR = 1e9
_PATIENT = ("max_queue_delay_microseconds", "preferred_batch_size")
_THREADS = "intra_op_thread_count"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A candidate under a load, with all its points: the search's and the final's."""

    candidate: Candidate
    load: Load
    points: tuple[Point, ...]

    def rank(self, goal: Goal) -> tuple[float, float]:
        """Return a key that sorts from the best to the worst: the medians of its points' ranks."""
        excesses, scores = zip(*map(goal.rank, self.points), strict=True)
        return median(excesses), median(scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a search ended: the winner, the model as served, and why it stopped."""

    winner: Contender
    as_served: Contender
    measurements: int
    stopped: str
    satisfied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search over ``space`` and ``loads`` for ``goal`` with so many measurements at most."""

    space: Space
    loads: tuple[Load, ...]
    goal: Goal
    measurements: int
    seed: int = 0

    def run(self, trials: Trials, told: Callable[[Point], None]) -> Outcome:
        """Search; ``told`` is called after each measurement. Raises what ``Trials.point`` does."""
        counted: list[Point] = []

        def measured(candidate: Candidate, load: Load) -> Point:
            point = trials.point(candidate, load)
            counted.append(point)
            told(point)
            return point

        for load in self.loads:
            measured(AS_SERVED, load)
        stopped = self._explore(trials, measured, counted)
        self._repeat(measured, counted)
        return self._outcome(counted, stopped)

    def _explore(
        self, trials: Trials, measured: Callable[[Candidate, Load], Point], counted: list[Point]
    ) -> str:
        config = trials.served.original
        proposals = _Proposals(self, config)
        last = self.measurements - _ROUNDS * (_FINALISTS + 1)
        best, waited = min(map(self.goal.rank, counted)), 0
        for candidate, load, tell in proposals:
            if len(counted) >= last:
                return f"{self.measurements} measurements were allowed"
            earlier = [p for p in counted if (p.candidate, p.load) == (candidate, load)]
            if earlier:
                tell(earlier[-1])
                continue
            point = measured(candidate, load)
            tell(point)
            rank = self.goal.rank(point)
            waited = 0 if _worthwhile(rank, best) else waited + 1
            best = min(best, rank)
            if waited >= _PATIENCE and not proposals.seeds_left:
                return f"the last {waited} found nothing better by {_WORTHWHILE:.0%}"
        return "every configuration that is left was measured"

    def _repeat(
        self, measured: Callable[[Candidate, Load], Point], counted: Sequence[Point]
    ) -> None:
        """Measure the best and the model as served again, in turns."""
        finalists = self._best(counted)
        for turn in range(_ROUNDS):
            for candidate, load in finalists if turn % 2 else finalists[::-1]:
                measured(candidate, load)

    def _best(self, counted: Sequence[Point]) -> list[tuple[Candidate, Load]]:
        ordered = [(p.candidate, p.load) for p in sorted(counted, key=self.goal.rank)]
        others = [pair for pair in dict.fromkeys(ordered) if pair[0] != AS_SERVED]
        served = next(pair for pair in ordered if pair[0] == AS_SERVED)
        return [served, *others[:_FINALISTS]]

    def _outcome(self, counted: Sequence[Point], stopped: str) -> Outcome:
        contenders = [
            Contender(
                candidate=candidate,
                load=load,
                points=tuple(p for p in counted if (p.candidate, p.load) == (candidate, load)),
            )
            for candidate, load in self._best(counted)
        ]
        winner = min(contenders, key=lambda one: one.rank(self.goal))
        return Outcome(
            winner=winner,
            as_served=contenders[0],
            measurements=len(counted),
            stopped=stopped,
            satisfied=winner.rank(self.goal)[0] == 0,
        )


def _worthwhile(rank: tuple[float, float], best: tuple[float, float]) -> bool:
    if rank[0] != best[0]:
        return rank < best
    return rank[1] < best[1] * (1 + _WORTHWHILE)


class _Proposals:
    """What to try next: good choices first, then around the best, then what Optuna expects.

    Optuna's sampler (TPE) learns from all that was measured; for the few measurements that
    a search has, it alone would spend most of them on chance.
    """

    def __init__(self, search: Search, config: Mapping[str, Any]) -> None:
        optuna = _optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._goal = search.goal
        self._loads = search.loads
        self._choices: dict[str, tuple[Any, ...]] = search.space.choices()
        if len(self._loads) > 1:
            self._choices["load"] = self._loads
        self._config = config
        self._seeds = [{"load": self._loads[-1], **one} for one in seeds(search.space, config)]
        self._best: tuple[tuple[float, float], dict[str, Any]] | None = None
        self._study: Any = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(
                seed=search.seed, n_startup_trials=len(self._seeds), multivariate=True
            ),
        )

    @property
    def seeds_left(self) -> bool:
        return bool(self._seeds)

    def __iter__(self) -> Iterator[tuple[Candidate, Load, Callable[[Point], None]]]:
        seen: set[tuple[Candidate | None, Load]] = set()
        repeated = turn = 0
        while repeated < _REPEATS:
            wanted = self._wanted(seen, turn)
            if wanted is not None:
                places = {n: self._choices[n].index(wanted[n]) for n in self._choices}
                self._study.enqueue_trial(places)
            trial = self._study.ask()
            values = {
                name: choices[trial.suggest_categorical(name, range(len(choices)))]
                for name, choices in self._choices.items()
            }
            candidate, load = self._named(values)
            repeated = repeated + 1 if (candidate, load) in seen else 0
            if candidate is None:
                repeated += 1
                self._tell(trial, values, None)
                continue
            turn += (candidate, load) not in seen
            seen.add((candidate, load))
            yield candidate, load, partial(self._tell, trial, values)

    def _wanted(
        self, seen: Collection[tuple[Candidate | None, Load]], turn: int
    ) -> dict[str, Any] | None:
        """Return a seed, or a neighbour of the best; None leaves the choice to Optuna."""
        if self._seeds:
            return self._seeds.pop(0)
        if self._best is None or turn % _OPTUNAS_TURN == 0:
            return None
        neighbours = spaces.neighbours(self._best[1], self._choices)
        new = (values for values in neighbours if self._named(values) not in seen)
        return next((values for values in new if self._named(values)[0] is not None), None)

    def _named(self, values: Mapping[str, Any]) -> tuple[Candidate | None, Load]:
        settings = {name: value for name, value in values.items() if name != "load"}
        return spaces.fitting(settings, self._config), values.get("load", self._loads[0])

    def _tell(self, trial: Any, values: dict[str, Any], point: Point | None) -> None:
        measured = point.measurement if point else None
        excess = self._goal.excess(measured) if measured else math.inf
        trial.set_constraint("limits", min(excess, _FAR))
        self._study.tell(trial, self._goal.score(measured) if measured else 0.0)
        if point is not None and (self._best is None or self._goal.rank(point) < self._best[0]):
            self._best = self._goal.rank(point), values


def seeds(space: Space, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the choices to try first: what serves most models well, from what is known.

    One instance with all that waits in a batch; several, with batches that leave callers for
    the others (a half, then a quarter, of those under way: while one answers, the next one
    computes), without a delay and with a short one; and one instance with all threads.
    Many instances with many threads fight for the cores, and are no seeds.
    """
    choices = space.choices()
    alone = {name: min(possible) for name, possible in choices.items()}
    if "dynamic_batching" in alone:
        alone["dynamic_batching"] = max(choices["dynamic_batching"])
    sizes = sorted(choices.get("max_batch_size", ()), reverse=True)
    counts = sorted(choices.get("instance_count", ()))
    delays, preferred = (sorted(choices.get(name, ())) for name in _PATIENT)

    def some(**values: Sequence[Any]) -> dict[str, Any]:
        """Return ``alone`` with the last of each of ``values`` that there is."""
        return alone | {name: given[-1] for name, given in values.items() if given}

    half, quarter, several = sizes[:2], sizes[:3], counts[:2]
    tried = [
        some(max_batch_size=sizes[:1]),
        some(max_batch_size=half, instance_count=several),
        some(max_batch_size=quarter, instance_count=several),
        some(
            max_batch_size=half,
            instance_count=several,
            max_queue_delay_microseconds=delays[:2],
            preferred_batch_size=preferred[:2],
        ),
        some(max_batch_size=sizes[:1], intra_op_thread_count=choices.get(_THREADS, ())),
        some(max_batch_size=quarter, instance_count=counts),
    ]
    fitting = (values for values in tried if spaces.fitting(values, config) is not None)
    return list({str(values): values for values in fitting}.values())


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise MissingDependencyError(
            "the search needs optuna, which is not installed",
            hint="pip install 'triton-companion[tune]'",
        ) from error
    return optuna
