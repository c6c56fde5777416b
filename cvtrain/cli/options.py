"""The options that several commands share."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from cvtrain.cli.named import RUNS_DIR, is_run, model_at, refusal, run_around, typed_with
from cvtrain.errors import ConfigError
from cvtrain.system.console import Console
from cvtrain.system.text import shell_quote

if TYPE_CHECKING:
    from cvtrain.config import Config
    from cvtrain.runs.run import RunRequest


class WholeSentences(click.Group):
    """A group that lists its commands with the whole first sentence of their help.

    Attributes:
        groups: the names of the commands by the title of their section; may be empty.
    """

    groups: ClassVar[Mapping[str, Sequence[str]]] = {}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands into a help page."""
        groups = self.groups or {"Commands": self.list_commands(ctx)}
        width = max(map(len, self.commands))
        for title, names in groups.items():
            rows = []
            for name in names:
                sentence = (self.commands[name].help or "").partition("\n")[0]
                rows.append((f"{name:<{width}}", sentence))
            with formatter.section(title):
                formatter.write_dl(rows)


def common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --quiet and --debug, and pass a `console` as the first argument."""

    @click.option("-q", "--quiet", is_flag=True, help="Print only results and warnings.")
    @click.option("--debug", is_flag=True, help="Print the traceback of an error.")
    @functools.wraps(command)
    def wrapper(quiet: bool, debug: bool, **arguments: Any) -> None:
        click.get_current_context().find_root().meta["cvtrain.debug"] = debug
        command(Console(quiet), **arguments)

    return wrapper


set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Override a key of the config; can be repeated. Paths are relative to the current folder.",
)
force_option = click.option("--force", is_flag=True, help="Replace an existing file.")


def _columns_of(_context: click.Context, _option: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    from cvtrain.config import config_for_source

    # The source is only a name for error messages.
    return config_for_source("--columns", columns=text).data.columns


columns_option = click.option(
    "--columns",
    metavar="COLUMNS",
    callback=_columns_of,
    help="Meaning of the columns of a manifest, as in data.columns: '{path: id, label: breed, "
    "suffix: .jpg}'.",
)
run_dir_option = click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Run folder to write (default: runs/DATE-COMMAND-CONFIG).",
)


@dataclass(frozen=True)
class Project:
    """The arguments of a command that trains.

    Attributes:
        config: the config file, or a run folder to resume.
        overrides: the values of --set.
        run_dir: the value of --run-dir.
        resume: whether to continue an unfinished run: `run_dir`, or the newest one.
        accept_changes: whether to continue it although its config, images or machine have changed.
    """

    config: Path
    overrides: tuple[str, ...]
    run_dir: Path | None
    resume: bool
    accept_changes: bool

    def open(self, command: str) -> tuple["Config", "RunRequest"]:
        """Load the config, and choose the run folder to write or to continue."""
        from cvtrain.config import load_config
        from cvtrain.runs.run import Run, RunRequest, check_not_existing, new_run_path, newest_run

        config, run_dir = self.config, self.run_dir
        kept: Path | None = config
        if is_run(config):
            if not self.resume:
                raise ConfigError(
                    f"{config} is a run folder",
                    f"To continue it: cvtrain {command} {shell_quote(config)} --resume",
                )
            if run_dir is not None and run_dir.resolve() != config.resolve():
                raise ConfigError(
                    f"--run-dir {run_dir}: {config} is the run folder to continue",
                    "Name one of the two.",
                )
            run_dir, config, kept = config, config / "config.yaml", None
            name = Run.open(run_dir).record.name
        else:
            if self.resume:
                _check_is_config(config)
            name = config.stem
        settings = load_config(config, self.overrides)
        if self.resume:
            wanted = {"command": command, "name": name, "unfinished": True}
            path = run_dir or newest_run(RUNS_DIR, **wanted).path
        else:
            path = run_dir or new_run_path(RUNS_DIR, command, name)
            check_not_existing(path)
        return settings, RunRequest(path, name, self.resume, self.accept_changes, kept)


def project_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add CONFIG, --set, --run-dir, --resume and --accept-changes, and pass them as a `Project`."""

    @functools.wraps(command)
    def wrapper(console: Console, **arguments: Any) -> None:
        options = {field.name: arguments.pop(field.name) for field in fields(Project)}
        command(console, Project(**options), **arguments)

    with_options: Callable[..., None] = wrapper
    for option in (
        common_options,
        click.option(
            "--accept-changes",
            is_flag=True,
            help="With --resume: continue although the config (such as --set fit.epochs=20), "
            "images, versions or machine have changed. The run is then recorded as not exact.",
        ),
        click.option("--resume", is_flag=True, help="Continue an unfinished run."),
        run_dir_option,
        set_option,
        click.argument("config", default="config.yaml", type=click.Path(path_type=Path)),
    ):
        with_options = option(with_options)
    return with_options


def _check_is_config(path: Path) -> None:
    """Raise RunError unless a path to resume can be a config.

    The config.yaml in a run folder would otherwise resume any run with the name `config`.
    """
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    if run_around(path) or path.is_dir() or model_at(path) or not (is_yaml or path.exists()):
        typed = typed_with()
        raise refusal(path, lambda run: f"{typed(run)} --resume")
