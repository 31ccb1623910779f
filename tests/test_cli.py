"""The command line: what is said, where it is said, and how every mistake ends in one sentence."""

import re
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from degradations.blur import BlurOptions
from flows.__main__ import pairforge, run
from tests.builds import write_photographs

ROOT = Path(__file__).parents[1]
SMALLEST = 'seed = 7\noutput = "dataset"\n[source]\nfolder = "photographs"\n'
COMMANDS = ("build", "demo", "doctor", "explain", "init", "inspect", "judge", "plan", "preview", "report", "verify")

CAUSES = "".join(f"{name} = 0\n" for name in BlurOptions.model_fields if name != "preset")

# What is wrong -> the settings file, and what the sentence must name beside the file: the key, and the fix.
TOML = {
    "no seed": (SMALLEST.replace("seed = 7\n", ""), "seed", "add"),
    "no output": (SMALLEST.replace('output = "dataset"\n', ""), "output", "add"),
    "no source": ('seed = 7\noutput = "dataset"\n', "source", "add"),
    "no folder": ('seed = 7\noutput = "dataset"\n[source]\n', "source.folder", "add"),
    "nothing at all": ("", "seed", "add"),
    "an unknown key": (f"sed = 7\n{SMALLEST}", "sed", "did you mean seed"),
    "an unknown key of a table": (f"{SMALLEST}[mixture]\nvariant = 3\n", "mixture.variant", "did you mean variants"),
    "an unknown table": (f"{SMALLEST}[mixtures]\nvariants = 3\n", "mixtures", "did you mean mixture"),
    "a key far from any": (f"{SMALLEST}[pack]\nzzz = 3\n", "pack.zzz", "known there: codec, pairs_per_shard"),
    "an unknown degradation": (f"{SMALLEST}[degradations.hase]\n", "degradations.hase", "did you mean haze"),
    "an unknown option": (f"{SMALLEST}[degradations.haze]\nkin = 1\n", "degradations.haze.kin", "did you mean kind"),
    "an unknown filter": (f"{SMALLEST}[filters.clean_qualit]\n", "filters.clean_qualit", "did you mean clean_quality"),
    "an unknown filter option": (
        f"{SMALLEST}[filters.strength]\npsnrs = [1, 2]\n",
        "filters.strength.psnrs",
        "did you mean psnr",
    ),
    "a filter that is true": (f"{SMALLEST}[filters]\nclean_quality = true\n", "filters.clean_quality", "false"),
    "a text for a number": (f'{SMALLEST}[mixture]\nvariants = "many"\n', "mixture.variants", "integer"),
    "a number for a text": ("seed = 7\noutput = 3\n[source]\nfolder = 'photographs'\n", "output", "string"),
    "a number for a table": ('seed = 7\noutput = "dataset"\nsource = 3\n', "source", "table"),
    "a number for all degradations": (f"degradations = 3\n{SMALLEST}", "degradations", "table"),
    "a fraction for an integer": (SMALLEST.replace("7", "7.5"), "seed", "integer"),
    "a negative seed": (SMALLEST.replace("7", "-7"), "seed", "greater than or equal to 0"),
    "a seed that is too large": (SMALLEST.replace("7", str(2**63)), "seed", "less than"),
    "no pair at all": (f"{SMALLEST}[mixture]\nvariants = 0\n", "mixture.variants", "greater than or equal to 1"),
    "too much validation": (f"{SMALLEST}[mixture]\nvalidation = 0.9\n", "mixture.validation", "0.5"),
    "a level that does not exist": (f"{SMALLEST}[mixture]\nlevels = [1, 6]\n", "mixture.levels", "5"),
    "no level": (f"{SMALLEST}[mixture]\nlevels = []\n", "mixture.levels", "at least 1"),
    "an unknown preset": (f'{SMALLEST}[mixture]\npreset = "even"\n', "mixture.preset", "'equal'"),
    "a weight of nothing known": (
        f"{SMALLEST}[mixture]\nweights = {{hase = 1}}\n",
        "mixture",
        "'hase' is neither a degradation nor a combination; did you mean haze?",
    ),
    "weights that are all 0": (f"{SMALLEST}[mixture]\nweights = {{haze = 0}}\n", "mixture", "every weight is 0"),
    "a negative weight": (f"{SMALLEST}[mixture]\nweights = {{haze = -1}}\n", "mixture.weights.haze", "or equal to 0"),
    "a share above 1": (f"{SMALLEST}[degradations.rain]\nraindrop = 1.5\n", "degradations.rain.raindrop", "equal to 1"),
    "a share that is no number": (
        f"{SMALLEST}[degradations.noise]\nsegment_aware = nan\n",
        "degradations.noise.segment_aware",
        "equal to 1, got nan",
    ),
    "kinds of noise that all weigh 0": (
        f"{SMALLEST}[degradations.noise]\nweights = [0, 0, 0]\n",
        "degradations.noise",
        "every weight is 0",
    ),
    "causes of blur that all weigh 0": (
        f"{SMALLEST}[degradations.blur]\n{CAUSES}",
        "degradations.blur",
        "every weight is 0",
    ),
    "an option of snow, which has none": (
        f"{SMALLEST}[degradations.snow]\nx = 1\n",
        "degradations.snow.x",
        "no setting",
    ),
    "patterns that are missing": (
        f'{SMALLEST}[degradations.flare]\npatterns = "gone"\n',
        "degradations.flare.patterns",
        "name a folder of images",
    ),
    "weights of darkness that are missing": (
        f'{SMALLEST}[degradations.low_light]\nmodel_weights = "gone.json"\n',
        "degradations.low_light.model_weights",
        "name another file",
    ),
    "a bad choice": (f'{SMALLEST}[degradations.haze]\nkind = "mist"\n', "degradations.haze.kind", "'fog'"),
    "an unknown annotator": (f'{SMALLEST}[annotate]\ndepth = "radar"\n', "annotate.depth", "depth_prior"),
    "an unknown codec": (f'{SMALLEST}[pack]\ncodec = "jpeg"\n', "pack.codec", "'webp'"),
    "empty shards": (f"{SMALLEST}[pack]\npairs_per_shard = 0\n", "pack.pairs_per_shard", "or equal to 1"),
    "sides of nothing": (f"{SMALLEST}[clean]\nmin_side = 0\n", "clean.min_side", "or equal to 16"),
    "more pixels than can be": (f"{SMALLEST}[clean]\nmax_pixels = 1000000000\n", "clean.max_pixels", "64000000"),
    "a name with a space": (f'{SMALLEST}[dataset]\nname = "my set"\n', "dataset.name", "pattern"),
    "a port that does not exist": (f"{SMALLEST}[run]\nmetrics_port = 70000\n", "run.metrics_port", "65535"),
    "an unknown device": (f'{SMALLEST}[run]\ndevice = "tpu"\n', "run.device", "'cuda'"),
    "a line that is no TOML": (f"{SMALLEST}weather: haze\n", "line 5", "mend"),
    "a key that is set twice": (f"seed = 8\n{SMALLEST}", "line 2", "mend"),
    "a folder that is missing": (SMALLEST.replace("photographs", "fotos"), "source.folder", "does not exist"),
    "a folder that is a file": (SMALLEST.replace("photographs", "notes.txt"), "source.folder", "is not a folder"),
    "an output inside the source": (
        SMALLEST.replace('"dataset"', '"photographs/dataset"'),
        "output",
        "choose another output",
    ),
    "a source inside the output": (SMALLEST.replace('"dataset"', '"."'), "output", "choose another output"),
    "an output that is the source": (SMALLEST.replace('"dataset"', '"photographs"'), "output", "choose another output"),
    "an output that is a file": (SMALLEST.replace('"dataset"', '"notes.txt"'), "output", "name a folder"),
    "an output that holds something else": (SMALLEST.replace('"dataset"', '"letters"'), "output", "name a new folder"),
}

# What is wrong -> the arguments, and what the sentence must name. {} is the folder of the test.
ARGUMENTS = {
    "an unknown command": (["bild"], "bild", "pairforge --help"),
    "no argument": (["build"], "SETTINGS.toml|FOLDER", "pairforge build --help"),
    "an unknown flag": (["build", "{}/b.toml", "--worker", "2"], "--worker", "--workers"),
    "a flag without its value": (["build", "{}/b.toml", "--workers"], "--workers", "--help"),
    "a limit of 0": (["build", "{}/b.toml", "--limit", "0"], "--limit", "--help"),
    "a limit in words": (["build", "{}/b.toml", "--limit", "few"], "--limit", "'few'"),
    "no workers": (["build", "{}/b.toml", "--workers", "0"], "--workers", "--help"),
    "a negative seed": (["build", "{}/b.toml", "--seed", "-1"], "--seed", "--help"),
    "a file that is missing": (["build", "{}/gone.toml"], "gone.toml", "pairforge init"),
    "a folder without an output": (["build", "{}/photographs"], "photographs", "--out"),
    "a folder that is missing": (["build", "{}/gone", "--out", "{}/x"], "gone", "holds photographs"),
    "an output beside a file": (["build", "{}/b.toml", "--out", "{}/x"], "b.toml", "--out"),
    "an output inside the folder": (["build", "{}/photographs", "--out", "{}/photographs/x"], "output", "another"),
    "text that is not UTF-8": (["build", "{}/latin.toml"], "latin.toml", "UTF-8"),
    "a picture for settings": (["build", "{}/photo.png"], "photo.png", "UTF-8"),
    "a plan of nothing": (["plan", "{}/empty"], "empty", "photographs"),
    "a plan of a file that is missing": (["plan", "{}/gone.toml"], "gone.toml", "pairforge init"),
    "init over a file": (["init", "{}/b.toml"], "b.toml", "--force"),
    "init into a folder": (["init", "{}/photographs"], "photographs", "name a file"),
    "init into a folder that is missing": (["init", "{}/gone/b.toml"], "gone", "make it first"),
    "a demo over a file": (["demo", "--out", "{}/notes.txt"], "notes.txt", "name a folder"),
    "a demo over something else": (["demo", "--out", "{}/letters"], "letters", "name a new folder"),
    "a preview of what is unknown": (["preview", "hase", "{}/photo.png", "-o", "{}/x.png"], "'hase'", "haze"),
    "a preview of a photograph that is missing": (["preview", "haze", "{}/gone.png", "-o", "{}/x.png"], "gone", "name"),
    "a preview of a text": (["preview", "haze", "{}/notes.txt", "-o", "{}/x.png"], "notes.txt", "another photograph"),
    "a preview without an output": (["preview", "haze", "{}/photo.png"], "--output", "pairforge preview --help"),
    "a preview into a text": (["preview", "haze", "{}/photo.png", "-o", "{}/x.txt"], "x.txt", ".png"),
    "a preview into a folder that is missing": (
        ["preview", "haze", "{}/photo.png", "-o", "{}/n/x.png"],
        "/n",
        "make it",
    ),
    "a preview without a degradation": (["preview", "{}/photo.png", "-o", "{}/x.png"], "degradation", "--grid"),
    "a preview of nothing": (["preview", "", "{}/photo.png", "-o", "{}/x.png"], "''", "haze"),
    "a preview over the photograph": (
        ["preview", "haze", "{}/photo.png", "-o", "{}/./photo.png"],
        "photo.png",
        "another place",
    ),
    "a preview over the second photograph": (
        ["preview", "reflection", "{}/notes.txt", "-o", "{}/photo.png", "--second", "{}/photo.png"],
        "photo.png",
        "another place",
    ),
    "a preview over a folder": (
        ["preview", "haze", "{}/photo.png", "-o", "{}/folder.png"],
        "folder.png",
        "name a file",
    ),
    "a severity that is no number": (
        ["preview", "haze", "{}/photo.png", "-o", "{}/x.png", "--severity", "nan"],
        "--severity",
        "[0, 1], got nan",
    ),
    "a severity of a grid": (
        ["preview", "haze", "{}/photo.png", "-o", "{}/x.png", "--grid", "--severity", "0.3"],
        "--severity",
        "leave",
    ),
    "a second photograph for haze": (
        ["preview", "haze", "{}/photo.png", "-o", "{}/x.png", "--second", "{}/photo.png"],
        "--second",
        "leave it out",
    ),
    "an option that is no number": (
        ["preview", "rain", "{}/photo.png", "-o", "{}/x.png", "--option", "raindrop=often"],
        "--option rain.raindrop",
        "got 'often'",
    ),
    "an option that the name stands for": (
        ["preview", "raindrop", "{}/photo.png", "-o", "{}/x.png", "--option", "mode=night"],
        "--option rain.mode",
        "raindrop",
    ),
    "a list that is too short": (
        ["preview", "noise", "{}/photo.png", "-o", "{}/x.png", "--option", "weights=[1, 2]"],
        "--option noise.weights.2",
        "add it",
    ),
    "patterns of a preview that are missing": (
        ["preview", "flare", "{}/photo.png", "-o", "{}/x.png", "--option", "patterns={}/gone"],
        "--option flare.patterns",
        "name a folder",
    ),
    "a severity above 1": (["preview", "haze", "{}/photo.png", "-o", "{}/x.png", "--severity", "7"], "--severity", "1"),
    "an option without a value": (
        ["preview", "haze", "{}/photo.png", "-o", "{}/x.png", "--option", "kind"],
        "--option",
        "KEY=VALUE",
    ),
    "an option that is unknown": (
        ["preview", "haze", "{}/photo.png", "-o", "{}/x.png", "--option", "kin=fog"],
        "haze.kin",
        "kind",
    ),
    "inspect without a dataset": (["inspect", "{}/gone"], "gone", "pairforge build"),
    "explain without a dataset": (["explain", "{}/gone", "abc"], "gone", "pairforge build"),
    "explain of nothing": (["explain"], "DATASET", "pairforge explain --help"),
    "verify without a dataset": (["verify", "{}/gone"], "gone", "pairforge build"),
    "verify of a folder that is none": (["verify", "{}/photographs"], "photographs", "pairforge build"),
    "a negative replay": (["verify", "{}/gone", "--replay", "-1"], "--replay", "--help"),
    "report without a dataset": (["report", "{}/gone"], "gone", "pairforge build"),
    "judge without a dataset": (["judge", "{}/gone", "{}/b.toml"], "gone", "pairforge build"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with everything that a user may point at by mistake; nothing in it is ever built."""
    root = tmp_path_factory.mktemp("user")
    write_photographs(root / "photographs", count=1)
    (root / "photo.png").write_bytes(next((root / "photographs").iterdir()).read_bytes())
    (root / "notes.txt").write_text("not a photograph")
    (root / "b.toml").write_text(SMALLEST)
    (root / "latin.toml").write_bytes("seed = 7 # f\xfcr mich\n".encode("latin-1"))
    (root / "empty").mkdir()
    (root / "folder.png").mkdir()
    (root / "letters" / "shards").mkdir(parents=True)
    (root / "letters" / "shards" / "mine.txt").write_text("keep me")
    return root


@pytest.fixture(autouse=True)
def own_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def told(capsys, status=2):
    """Return the one sentence on standard error, nothing being on standard output."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    lines = captured.err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert len(lines) == 1 or status != 2
    return lines[-1]


@pytest.mark.parametrize("mistake", TOML)
def test_a_wrong_settings_file_is_named_with_the_key_and_the_fix(mistake, folder, capsys, request):
    text, key, fix = TOML[mistake]
    file = folder / f"{abs(hash(mistake))}.toml"
    file.write_text(text)
    request.addfinalizer(file.unlink)
    assert run(["build", str(file)]) == 2
    sentence = told(capsys)
    assert key in sentence
    assert fix in sentence
    assert str(file) in sentence


@pytest.mark.parametrize("mistake", ARGUMENTS)
def test_a_wrong_argument_is_named_with_what_mends_it(mistake, folder, capsys):
    arguments, named, fix = ARGUMENTS[mistake]
    assert run([text.replace("{}", str(folder)) for text in arguments]) == 2
    sentence = told(capsys)
    assert named in sentence
    assert fix in sentence


def test_there_are_at_least_thirty_mistakes_in_the_tables():
    assert len(TOML) + len(ARGUMENTS) >= 30


def test_a_wrong_command_leaves_nothing_behind(folder, capsys):
    before = sorted(folder.rglob("*"))
    for arguments, _, _ in ARGUMENTS.values():
        run([text.replace("{}", str(folder)) for text in arguments])
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json_and_help(command, capsys):
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--json" in shown
    assert len(shown.splitlines()) > 4


def test_the_commands_are_those_of_the_tests():
    assert set(COMMANDS) <= set(pairforge.commands)


def test_no_argument_at_all_shows_the_help(capsys):
    assert run([]) == 2
    assert "build" in capsys.readouterr().err


def test_a_full_disk_is_told_in_one_sentence(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PAIRFORGE_FAILPOINT", "data.before_write:enospc")
    assert run(["init", str(tmp_path / "b.toml")]) == 1
    assert "the disk is full" in told(capsys, status=1)
    assert list(tmp_path.glob("*.toml")) == []


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "flows", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def seconds_of_help():
    """Return the CPU time of `pairforge --help`: on an idle machine what a user waits."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_help_answers_at_once():
    done = command("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in COMMANDS)
    assert statistics.median(seconds_of_help() for _ in range(3)) < 0.5


def test_help_imports_nothing_that_is_slow():
    code = "import sys, flows.__main__ as m; m.run(['--help']); print([n for n in sys.modules if n in sys.argv[1:]])"
    slow = ("numpy", "cv2", "prefect", "ray", "pyarrow", "pydantic", "torch")
    done = subprocess.run([sys.executable, "-c", code, *slow], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_process_ends_with_the_status_and_the_sentence(tmp_path):
    done = command("build", str(tmp_path / "gone.toml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: [^\n]+gone\.toml[^\n]+\n", done.stderr)


def test_the_version_is_that_of_the_project(capsys):
    assert run(["--version"]) == 0
    assert re.fullmatch(r"pairforge \d+\.\d+\.\d+\n", capsys.readouterr().out)
