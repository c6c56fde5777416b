"""Many chains, one after the other, until there were kills enough; told as they come."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from robustness.crash.chains import (
    MOST_KILLS,
    Chain,
    load_chains,
    run_chain,
    run_through,
    save_chains,
    tables,
)
from robustness.crash.scenarios import Scenario


def arguments(description: str, names: Sequence[str]) -> argparse.ArgumentParser:
    """What every campaign may be told."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", nargs="+", choices=names, default=list(names), metavar="NAME")
    parser.add_argument("--kills", type=int, default=200, help="of each, over all seeds")
    parser.add_argument("--most", type=int, default=MOST_KILLS, help="kills of one run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--json", type=Path, help="keep the chains here, and go on with those there"
    )
    parser.add_argument("--work", type=Path, help="folder of the runs; default: one that goes away")
    parser.add_argument(
        "--fresh", type=float, default=0.15, help="share of new interpreters; the others are forks"
    )
    return parser


def campaign(
    options: argparse.Namespace, prepare: Callable[[Path, str, int], Scenario]
) -> list[Chain]:
    """Run chains of every scenario and seed until each has had its share of the kills.

    Args:
        options: as `arguments` has parsed them.
        prepare: folder, name and seed -> a scenario.
    """
    chains = load_chains(options.json) if options.json else []
    with tempfile.TemporaryDirectory() as spare:
        work = (options.work or Path(spare)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        for name in options.only:
            for i, seed in enumerate(options.seeds):
                # As even as can be, the first seeds have one more.
                share = options.kills // len(options.seeds) + (
                    i < options.kills % len(options.seeds)
                )
                _campaign(prepare, work, name, seed, share, chains, options)
    print(tables(chains))
    return chains


def _campaign(
    prepare: Callable[[Path, str, int], Scenario],
    work: Path,
    name: str,
    seed: int,
    kills: int,
    chains: list[Chain],
    options: argparse.Namespace,
) -> None:
    mine = [chain for chain in chains if (chain.name, chain.seed) == (name, seed)]
    done = sum(len(chain.kills) for chain in mine)
    if done >= kills:
        return
    scenario = prepare(work, name, seed)
    reference = run_through(scenario, work, fresh_share=options.fresh)
    lives = ", ".join(f"{each:.1f} s" for each in reference.seconds.values())
    _tell(f"{name}, seed {seed}: uninterrupted it lives {lives}")
    number = max((chain.number for chain in mine), default=-1) + 1
    while done < kills:
        chain = run_chain(
            scenario,
            work,
            number,
            reference,
            fresh_share=options.fresh,
            most_kills=options.most,
        )
        chains.append(chain)
        done, number = done + len(chain.kills), number + 1
        phases = ", ".join(kill.phase + " (new)" * kill.fresh for kill in chain.kills)
        detail = chain.lost or ", ".join(chain.differences[:8])
        _tell(
            f"{name}, seed {seed}, chain {chain.number}: killed in {phases or 'nothing'}: "
            f"{chain.verdict} {detail} ({done} of {kills})"
        )
        if options.json:
            save_chains(options.json, chains)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
