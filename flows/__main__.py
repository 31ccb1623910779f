"""The command line, `pairforge`: what may be said, and how what goes wrong is told.

Results go to standard output, progress and errors to standard error. Exit status 0 done, 1 failed, 2 wrong use. Every
command imports what it needs when it runs, so that `pairforge --help` answers at once.
"""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

from flows.quiet import data_folder, silence

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

INTERRUPTED = (130, 143)  # by SIGINT, by SIGTERM


def main() -> None:
    """Run the command line and end the process with its exit status."""
    silence(data_folder())
    status = run(sys.argv[1:])
    if status in INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # whoever waits for a stopped build shall not wait for Ray's and Prefect's farewells
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status; every error becomes one sentence on standard error."""
    try:
        return int(pairforge.main(arguments, prog_name="pairforge", standalone_mode=False) or 0)
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    except click.Abort:
        return 130
    except click.UsageError as error:
        return _tell(f"{error.format_message().rstrip('.')}; see `{_path(error)} --help`", 2)
    except OSError as error:
        return _tell(_os_sentence(error), 1)
    except Exception as error:
        return _tell_ours(error)


def _tell(sentence: str, status: int) -> int:
    click.echo(f"error: {' '.join(sentence.split())}", err=True)
    return status


def _tell_ours(error: Exception) -> int:
    from storage.errors import PairForgeError, SettingsError
    from tasks.units import Interrupted

    if isinstance(error, Interrupted):
        return _tell(str(error), 128 + error.number)
    if not isinstance(error, PairForgeError):
        raise error
    return _tell(str(error), 2 if isinstance(error, SettingsError) else 1)


def _os_sentence(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full; what was committed stays: free some space and run the same command again"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        name = error.filename or "a file"
        return f"{name} cannot be written or read ({error.strerror}); change its rights or choose another place"
    return f"{error.filename or 'the system'}: {error.strerror or error}"


def _path(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx else "pairforge"


def with_json(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json` to a command."""
    option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    return option(command)


def _finished(context: click.Context, parameter: click.Parameter, dataset: Path) -> Path:
    from storage.errors import SettingsError

    if not (dataset / "manifest.json").is_file():
        state = "has no manifest.json" if dataset.exists() else "does not exist"
        raise SettingsError(f"{dataset} {state}: name a finished dataset, or finish it with `pairforge build`")
    return dataset


@click.group(context_settings=CONTEXT, no_args_is_help=True)
@click.version_option(package_name="pairforge", prog_name="pairforge", message="%(prog)s %(version)s")
def pairforge() -> None:
    """From photographs to aligned, verified (clean, degraded) pairs for image restoration."""


@pairforge.command()
@click.argument("what", metavar="SETTINGS.toml|FOLDER", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where the dataset goes, when a FOLDER is built.")
@click.option("--limit", type=click.IntRange(min=1), help="Take only so many photographs, chosen by hash.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one per core unless said.")
@click.option("--seed", type=click.IntRange(min=0), help="Another seed than the settings say (a FOLDER: 0).")
@with_json
def build(what: Path, out: Path | None, limit: int | None, workers: int | None, seed: int | None, as_json: bool) -> int:
    """Build a dataset; run it again after anything, it resumes."""
    from flows.commands.build import build_command

    return build_command(what, out=out, limit=limit, workers=workers, seed=seed, as_json=as_json)


@pairforge.command()
@click.argument("dataset", type=click.Path(path_type=Path), callback=_finished)
@click.argument("key", required=False)
@click.option("--picture", type=click.Path(path_type=Path), help="Where the pair's picture goes; KEY.png unless said.")
@with_json
def inspect(dataset: Path, key: str | None, picture: Path | None, as_json: bool) -> int:
    """Show what a dataset holds, or one pair's recipe, verdicts and picture."""
    from flows.commands.inspect import inspect_command

    return inspect_command(dataset, key, picture=picture, as_json=as_json)


@pairforge.command()
@click.argument("dataset", type=click.Path(path_type=Path), callback=_finished)
@click.argument("key")
@with_json
def explain(dataset: Path, key: str, as_json: bool) -> int:
    """Say why a photograph or a pair was kept or dropped."""
    from flows.commands.explain import explain_command

    return explain_command(dataset, key, as_json=as_json)


@pairforge.command()
@click.argument("dataset", type=click.Path(path_type=Path), callback=_finished)
@click.option("--replay", type=click.IntRange(min=0), default=0, metavar="N", help="Make N pairs again and compare.")
@with_json
def verify(dataset: Path, replay: int, as_json: bool) -> int:
    """Check every hash; with --replay make pairs again from their recipes and compare every byte."""
    from flows.commands.verify import verify_command

    return verify_command(dataset, replay=replay, as_json=as_json)


@pairforge.command()
@click.argument("what", nargs=-1, required=True, metavar="[DEGRADATION] PHOTOGRAPH")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The picture to write.")
@click.option("--severity", type=click.FloatRange(0, 1), show_default="0.5", help="0 changes nothing.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--grid", is_flag=True, help="All nine degradations at five levels, or one of them.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Set an option, as in settings.")
@click.option("--second", type=click.Path(path_type=Path), help="The photograph that a reflection mirrors.")
@with_json
def preview(
    what: tuple[str, ...],
    output: Path,
    severity: float | None,
    seed: int,
    grid: bool,
    options: tuple[str, ...],
    second: Path | None,
    as_json: bool,
) -> int:
    """Try one degradation on one photograph and print its parameters."""
    from flows.commands.preview import preview_command

    if len(what) > 2:
        raise click.UsageError(f"preview takes a degradation and a photograph, got {len(what)} arguments")
    name, photograph = (what[0], Path(what[1])) if len(what) == 2 else (None, Path(what[0]))
    return preview_command(
        name,
        photograph,
        output=output,
        severity=severity,
        seed=seed,
        grid=grid,
        options=options,
        second=second,
        as_json=as_json,
    )


@pairforge.command()
@click.argument("dataset", type=click.Path(path_type=Path), callback=_finished)
@click.argument("settings", metavar="SETTINGS.toml", type=click.Path(path_type=Path))
@click.option("--what-if", is_flag=True, help="Say what would change; write nothing.")
@with_json
def judge(dataset: Path, settings: Path, what_if: bool, as_json: bool) -> int:
    """Judge a dataset again with other thresholds; nothing is measured again."""
    from flows.commands.judge import judge_command

    return judge_command(dataset, settings, what_if=what_if, as_json=as_json)


@pairforge.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo-dataset"), show_default=True)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one per core unless said.")
@with_json
def demo(out: Path, workers: int | None, as_json: bool) -> int:
    """Build a small dataset and its report from photographs that are installed already."""
    from flows.commands.demo import demo_command

    return demo_command(out, workers=workers, as_json=as_json)


@pairforge.command()
@click.argument("dataset", type=click.Path(path_type=Path), callback=_finished)
@with_json
def report(dataset: Path, as_json: bool) -> int:
    """Write the HTML report of a dataset again."""
    from flows.commands.report import report_command

    return report_command(dataset, as_json=as_json)


@pairforge.command()
@click.argument("file", metavar="BENCH.toml", type=click.Path(path_type=Path))
@click.option("--alone", is_flag=True, help="Without Prefect: at once, and no record of the run is kept.")
@with_json
def evaluate(file: Path, alone: bool, as_json: bool) -> int:
    """Score restored pictures by RealIR-Bench's protocol, or against the ground truth; run it again, it resumes."""
    from flows.commands.evaluate import evaluate_command

    return evaluate_command(file, alone=alone, as_json=as_json)


@pairforge.command()
@click.argument("file", metavar="[build.toml]", type=click.Path(path_type=Path), default=Path("build.toml"))
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@with_json
def init(file: Path, force: bool, as_json: bool) -> int:
    """Write a commented settings file to start from."""
    from flows.commands.init import init_command

    return init_command(file, force=force, as_json=as_json)


@pairforge.command()
@click.argument("what", metavar="SETTINGS.toml|FOLDER", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where the dataset would go, when a FOLDER is planned.")
@click.option("--limit", type=click.IntRange(min=1), help="Plan for only so many photographs.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one per core unless said.")
@with_json
def plan(what: Path, out: Path | None, limit: int | None, workers: int | None, as_json: bool) -> int:
    """Say what a build would come to: images, pairs, bytes, hours, each with a band; writes nothing."""
    from flows.commands.plan import plan_command

    return plan_command(what, out=out, limit=limit, workers=workers, as_json=as_json)


@pairforge.command()
@click.argument("what", metavar="[SETTINGS.toml|DATASET]", required=False, type=click.Path(path_type=Path))
@with_json
def doctor(what: Path | None, as_json: bool) -> int:
    """Say what is installed, reachable and writable, which models are usable, and how to fix what is not."""
    from flows.commands.doctor import doctor_command

    return doctor_command(what, as_json=as_json)


@pairforge.command()
@click.argument("settings", metavar="SETTINGS.toml", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what it would cost; train nothing.")
@with_json
def train(settings: Path, dry_run: bool, as_json: bool) -> int:
    """Train a restorer on a dataset; run it again after anything, it goes on."""
    from flows.commands.train import train_command

    return train_command(settings, dry_run=dry_run, as_json=as_json)


@pairforge.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--to", "layout", type=click.Choice(["native", "bundle", "diffusers", "safetensors", "dpt"]), required=True
)
@click.option("--dtype", type=click.Choice(["fp32", "bf16", "fp16"]), help="Number type; as in SOURCE unless said.")
@click.option(
    "--reference-ids",
    type=click.Choice(["v1.0", "v1.1", "realrestorer"]),
    help="Where the weights expect the reference, if SOURCE does not say or imply it rightly.",
)
@with_json
def convert(
    source: Path, target: Path, layout: str, dtype: str | None, reference_ids: str | None, as_json: bool
) -> int:
    """Write a restorer's weights in another format: a native file, a RealRestorer bundle, or Step1X for diffusers.

    Or write a model's .pt file (SAM-2, ViTPose) as safetensors: it is read where nothing in it can run. A DPT of MiDaS
    becomes, by --to dpt, the folder that `annotate.depth_weights` names.
    """
    from flows.commands.convert import convert_command

    return convert_command(source, target, layout=layout, dtype=dtype, reference_ids=reference_ids, as_json=as_json)


@pairforge.command()
@click.argument("source", metavar="PHOTOGRAPH|FOLDER", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="The picture, or folder, to write."
)
@click.option("--task", default="auto", show_default=True, help="What to remove: a degradation; auto looks.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    envvar="PAIRFORGE_WEIGHTS",
    show_envvar=True,
    help="A restorer's weights.",
)
@click.option("--compare", type=click.Path(path_type=Path), metavar="PAGE.html", help="Also write a page of sliders.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Of the sampler; 28, or 1 for the small restorer.")
@click.option("--guidance", type=float, help="Scale of guidance; 3, or 1 (none) for the small restorer.")
@click.option("--tile", type=click.IntRange(min=16), help="Pixels a side of a tile; 1024, or 64.")
@click.option("--overlap", type=click.IntRange(min=0), help="Pixels by which tiles overlap; 128, or 16.")
@click.option("--batch", type=click.IntRange(min=1), help="Tiles at once; 1, or 16.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(["fp32", "bf16"]), help="What the large restorer computes in; bf16.")
@click.option("--memory", type=click.IntRange(min=12), metavar="GB", help="Of the card, to fit into; all of it.")
@click.option("--compile", "compiled", is_flag=True, help="Compile the blocks first; pays off for many tiles.")
@click.option("--prefix", type=click.Path(path_type=Path), help="File of the text before the image, for a bundle.")
@with_json
def restore(
    source: Path,
    output: Path,
    task: str,
    weights: Path | None,
    compare: Path | None,
    seed: int,
    steps: int | None,
    guidance: float | None,
    tile: int | None,
    overlap: int | None,
    batch: int | None,
    device: Literal["cpu", "cuda"],
    dtype: Literal["fp32", "bf16"] | None,
    memory: int | None,
    compiled: bool,
    prefix: Path | None,
    as_json: bool,
) -> int:
    """Restore a photograph, or all photographs in a folder."""
    from flows.commands.restore import Machine, Wanted, restore_command

    return restore_command(
        source,
        output=output,
        weights=weights,
        wanted=Wanted(task=task, seed=seed, steps=steps, guidance=guidance, tile=tile, overlap=overlap, batch=batch),
        machine=Machine(device=device, dtype=dtype, memory=memory, compiled=compiled, prefix=prefix),
        compare=compare,
        as_json=as_json,
    )


if __name__ == "__main__":
    main()
