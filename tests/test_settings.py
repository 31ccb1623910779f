"""Settings: one TOML file, one frozen tree; the template of `pairforge init` says all of it."""

import json
import re
import tomllib

import pytest

from flows.__main__ import run
from flows.commands.init import template
from flows.settings import parse_settings, read_settings
from storage.errors import SettingsError

LEAST = 'seed = 7\noutput = "dataset"\n[source]\nfolder = "photographs"\n'
COMMENTED = re.compile(r"^#([a-z_]+ = )", re.MULTILINE)
UNSET = re.compile(r"^# ([a-z_]+ = (?:\"[^\"]*\"|\d+)) ", re.MULTILINE)


def read(text, folder):
    file = folder / "build.toml"
    file.write_text(text)
    return read_settings(file)


def leaves(content, at=""):
    """Yield the dotted name of every key that is no table of its own."""
    for name, value in content.items():
        key = f"{at}{name}"
        if isinstance(value, dict) and key not in ("mixture.weights", "mixture.quotas"):
            yield from leaves(value, f"{key}.")
        else:
            yield key


def keys_said(text):
    """Yield the dotted name of every key that stands in a settings file, set, commented or unset."""
    table = ""
    for line in text.splitlines():
        if match := re.match(r"\[([a-z0-9_.]+)\]", line):
            table = f"{match[1]}."
        elif match := re.match(r"(?:# ?)?([a-z_]+) (?:= |is not set)", line):
            yield f"{table}{match[1]}"


def test_the_template_means_the_defaults(tmp_path):
    assert read(template(), tmp_path) == read(LEAST, tmp_path)


def test_every_commented_key_of_the_template_shows_its_default(tmp_path):
    uncommented = COMMENTED.sub(r"\1", template())
    assert len(COMMENTED.findall(template())) > 60
    assert read(uncommented, tmp_path) == read(LEAST, tmp_path)


def test_every_key_of_the_settings_stands_in_the_template(tmp_path):
    wanted = set(leaves(read(LEAST, tmp_path).resolved()))
    assert wanted - set(keys_said(template())) == set()


def test_the_template_names_no_key_twice_and_none_that_does_not_exist(tmp_path):
    said = list(keys_said(template()))
    assert sorted(said) == sorted(set(said))
    assert set(said) <= set(leaves(read(LEAST, tmp_path).resolved()))


def test_the_examples_of_unset_keys_are_values_they_take(tmp_path):
    assert len(UNSET.findall(template())) >= 6
    read(UNSET.sub(r"\1 # ", template()), tmp_path)


def test_a_degradation_that_the_template_does_not_know_gets_a_table():
    assert "[degradations.snow]" in template()


def test_init_writes_the_template(tmp_path, capsys):
    assert run(["init", str(tmp_path / "b.toml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"settings": str(tmp_path / "b.toml")}
    assert (tmp_path / "b.toml").read_text() == template()


def test_init_keeps_a_file_that_exists_unless_forced(tmp_path, capsys):
    file = tmp_path / "b.toml"
    file.write_text("mine")
    assert run(["init", str(file)]) == 2
    assert file.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert run(["init", str(file), "--force"]) == 0
    assert tomllib.loads(file.read_text())["seed"] == 7


def test_relative_paths_are_relative_to_the_file(tmp_path):
    settings = read(LEAST + '[degradations.haze]\npatterns = "../fog"\n', tmp_path)
    assert settings.output == str(tmp_path / "dataset")
    assert settings.source.folder == str(tmp_path / "photographs")
    assert settings.degradations.haze.patterns == str(tmp_path.parent / "fog")


@pytest.mark.parametrize("change", ['output = "elsewhere"', "run.workers = 3", 'source.folder = "moved"'])
def test_where_and_how_it_is_built_does_not_change_the_digest(change, tmp_path):
    key, _, value = change.partition(" = ")
    content = tomllib.loads(LEAST)
    *tables, name = key.split(".")
    place = content
    for table in tables:
        place = place.setdefault(table, {})
    place[name] = json.loads(value)
    changed = parse_settings(content, origin="here", base=tmp_path)
    assert changed.digest() == read(LEAST, tmp_path).digest()


def test_an_option_of_a_degradation_changes_the_digest(tmp_path):
    changed = read(LEAST + '[degradations.haze]\nkind = "fog"\n', tmp_path)
    assert changed.digest() != read(LEAST, tmp_path).digest()


def test_a_filter_is_switched_off_by_false(tmp_path):
    settings = read(LEAST + "[filters]\nalignment = false\n", tmp_path)
    assert "alignment" not in settings.filters_of("pair")
    assert "strength" in settings.filters_of("pair")


def test_resolved_settings_are_read_again_as_they_were(tmp_path):
    settings = read(LEAST + "[filters]\nalignment = false\n[clean]\nmax_side = 2048\n", tmp_path)
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(settings.resolved()))
    assert read_settings(file) == settings


def test_a_missing_file_is_told_how_to_make_one(tmp_path):
    with pytest.raises(SettingsError, match=r"pairforge init .*gone\.toml"):
        read_settings(tmp_path / "gone.toml")


def test_weights_are_found_beside_the_file_and_published_without_their_place(tmp_path):
    tables = {
        "annotate": {"depth": "midas", "depth_weights": "models/dpt"},
        "filters": {"clip": {"weights": f"a/b@{'0' * 40}"}},
    }
    content = {"seed": 1, "output": "o", "source": {"folder": "f"}, **tables}
    settings = parse_settings(content, origin="test", base=tmp_path)
    assert settings.annotate.depth_weights == str(tmp_path / "models" / "dpt")
    assert settings.filters.clip.weights == f"a/b@{'0' * 40}"
    assert str(tmp_path) not in json.dumps(settings.published())
    again = parse_settings(settings.resolved(), origin="resolved", base=tmp_path / "elsewhere")
    assert again == settings
