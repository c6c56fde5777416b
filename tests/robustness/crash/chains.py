"""Chains of attempts: killed, resumed, killed, ... until one ends, and what came of it."""

import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from robustness.crash.attempts import Attempt, attempt
from robustness.crash.scenarios import Scenario, reference_folder, seed_folder

MOST_KILLS = 3
"""Of one run; then it may go on to its end."""


@dataclass
class Chain:
    """One run, killed and resumed.

    Attributes:
        name, seed, number: whose chain it is.
        attempts: in their order; all but the last were killed.
        lost: why the run could not be brought to its end; empty where it was.
        differences: what is not as in the uninterrupted run, by name.
    """

    name: str
    seed: int
    number: int
    attempts: list[Attempt] = field(default_factory=list)
    lost: str = ""
    differences: list[str] = field(default_factory=list)

    @property
    def kills(self) -> list[Attempt]:
        """The attempts that were killed."""
        return [each for each in self.attempts if each.code is None]

    @property
    def verdict(self) -> str:
        """`lost`, `different` or `identical`."""
        return "lost" if self.lost else "different" if self.differences else "identical"


@dataclass(frozen=True)
class Reference:
    """What an uninterrupted run is like: its outcome, and how long its process lives.

    Attributes:
        outcome: digests by name.
        seconds: by whether it is a new interpreter.
    """

    outcome: dict[str, str]
    seconds: dict[bool, float]


def run_through(scenario: Scenario, work: Path, *, fresh_share: float) -> Reference:
    """Run a scenario without a kill: in a fork, in a new interpreter, or in both, which must agree.

    Args:
        fresh_share: of the attempts of its chains, how many will be new interpreters.
    """
    outcomes, seconds = [], {}
    for is_fresh in {fresh_share > 0, fresh_share == 1}:
        folder = reference_folder(work, scenario.name, scenario.seed)
        folder = _emptied(folder.with_name(f"{folder.name}-new") if is_fresh else folder)
        ended = _next_attempt(scenario, folder, np.random.default_rng(), None, is_fresh)
        assert ended.code == 0, (folder / "output.txt").read_text()
        outcomes.append(scenario.outcome(folder))
        seconds[is_fresh] = ended.seconds
    different = _differences(outcomes[0], outcomes[-1])
    assert not different, f"a fork and a new interpreter disagree: {different}"
    return Reference(outcomes[0], seconds)


def run_chain(
    scenario: Scenario,
    work: Path,
    number: int,
    reference: Reference,
    *,
    fresh_share: float,
    most_kills: int = MOST_KILLS,
) -> Chain:
    """Kill and resume a run until an attempt outlives its moment, and compare what came of it.

    Args:
        number: of the chain; with the seed it decides all that is drawn.
        fresh_share: of the attempts that are new interpreters and no forks.
        most_kills: after which it may go on to its end.
    """
    chain = Chain(scenario.name, scenario.seed, number)
    folder = _emptied(seed_folder(work, scenario.seed) / scenario.name / f"{number:04d}")
    key = [*scenario.name.encode(), scenario.seed, number]
    generator = np.random.default_rng(key)
    while not chain.attempts or chain.attempts[-1].code is None:
        is_fresh = bool(generator.random() < fresh_share)
        moment = generator.uniform(0, reference.seconds[is_fresh])
        if len(chain.kills) == most_kills:
            moment = None
        chain.attempts.append(_next_attempt(scenario, folder, generator, moment, is_fresh))
    _judge(chain, scenario, folder, reference)
    if chain.verdict == "identical":
        shutil.rmtree(folder)
    return chain


def _next_attempt(
    scenario: Scenario,
    folder: Path,
    generator: np.random.Generator,
    kill_after: float | None,
    fresh: bool,
) -> Attempt:
    return attempt(
        scenario.program,
        scenario.arguments(folder, generator),
        folder=folder,
        environment=scenario.environment(folder),
        kill_after=kill_after,
        fresh=fresh,
    )


def _judge(chain: Chain, scenario: Scenario, folder: Path, reference: Reference) -> None:
    """Fill in whether the run was lost, or what differs."""
    if chain.attempts[-1].code != 0:
        lines = (folder / "output.txt").read_text().splitlines()
        said = [line for line in lines if line and not line.startswith("---")]
        chain.lost = f"exit code {chain.attempts[-1].code}: {' '.join(said[-2:])[:300]}"
        return
    try:
        chain.differences = _differences(scenario.outcome(folder), reference.outcome)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        chain.lost = f"what it left cannot be read: {error!r:.300}"


def _differences(outcome: dict[str, str], wanted: dict[str, str]) -> list[str]:
    return sorted(
        name for name in outcome.keys() | wanted.keys() if outcome.get(name) != wanted.get(name)
    )


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def save_chains(path: Path, chains: Sequence[Chain]) -> None:
    """Write chains as JSON, one a line."""
    lines = [json.dumps(asdict(chain)) for chain in chains]
    path.write_text("".join(f"{line}\n" for line in lines))


def load_chains(path: Path) -> list[Chain]:
    """Chains as `save_chains` wrote them; none where there is no file."""
    lines = path.read_text().splitlines() if path.exists() else []
    found = []
    for line in lines:
        values = json.loads(line)
        attempts = [Attempt(**each) for each in values.pop("attempts")]
        found.append(Chain(**values, attempts=attempts))
    return found


def tables(chains: Sequence[Chain]) -> str:
    """Two tables in Markdown: what came of the runs, and what they did when they were killed."""
    keys = sorted({(chain.name, chain.seed) for chain in chains})
    names = sorted({name for name, _ in keys})
    lines = [
        "| | seed | runs | kills | second or third ones | of new interpreters "
        "| runs killed twice or more | lost | different | identical |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, seed in keys:
        some = [chain for chain in chains if (chain.name, chain.seed) == (name, seed)]
        lines.append(f"| {name} | {seed} | {_row(some)} |")
    if len(keys) > len(names):
        for name in names:
            lines.append(f"| {name} | all | {_row([c for c in chains if c.name == name])} |")
    phases = Counter((chain.name, kill.phase) for chain in chains for kill in chain.kills)
    lines += ["", f"| killed in | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for phase in sorted({phase for _, phase in phases}):
        counts = " | ".join(str(phases[name, phase]) for name in names)
        lines.append(f"| {phase} | {counts} |")
    return "\n".join(lines)


def _row(chains: Iterable[Chain]) -> str:
    chains = list(chains)
    verdicts = Counter(chain.verdict for chain in chains)
    kills = [kill for chain in chains for kill in chain.kills]
    counts = (
        len(chains),
        len(kills),
        sum(max(0, len(chain.kills) - 1) for chain in chains),
        sum(kill.fresh for kill in kills),
        sum(len(chain.kills) > 1 for chain in chains),
        *(verdicts[verdict] for verdict in ("lost", "different", "identical")),
    )
    return " | ".join(map(str, counts))
