"""Filters with models in a build: measured beside the others, the dearest on survivors only, known by their weights."""

import json
from typing import ClassVar

import pytest

from filters._contract import Filter, verdict
from flows.__main__ import run
from flows.dataset import Dataset
from flows.job import finished
from flows.settings import parse_settings
from storage.errors import SettingsError
from tests.builds import build_here, settings_for, write_photographs

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # a filter in another's place
SEEN = []


class Model(Filter, frozen=True):
    """Scores the mean of the degraded image times what its weights say; drops what is above `most`."""

    subject: ClassVar = "pair"
    cost: ClassVar[int] = 9
    measures_with: ClassVar = frozenset({"weights"})
    needs_weights: ClassVar[bool] = True
    weights: str = ""
    most: float = 1e9

    def open(self, device):
        from safetensors.numpy import load_file

        factor = float(load_file(self.weights)["factor"][0])

        def measure(samples):
            SEEN.extend(sample.key for sample in samples)
            return [{"mean": factor * float(sample.degraded.mean())} for sample in samples]

        return measure

    def judge(self, scores, recipe=None):
        return verdict(type(self).__name__.lower(), scores, "too_bright" if scores["mean"] > self.most else "")


class Dear(Model, frozen=True):
    """The same, for survivors only."""

    on_survivors: ClassVar[bool] = True


@pytest.fixture
def seen():
    SEEN.clear()
    return SEEN


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"), count=4)


@pytest.fixture
def weights(tmp_path):
    return write_weights(tmp_path / "weights.safetensors", 1.0)


def write_weights(path, factor):
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"factor": np.array([factor], np.float32)}, path)
    return str(path)


def with_filters(photographs, root, **filters):
    """Return settings in which built-in pair filters give their place to those named."""
    settings = settings_for(photographs, root, mixture={"variants": 2, "weights": {"haze": 1, "low_light": 1}})
    return settings.model_copy(update={"filters": settings.filters.model_copy(update=filters)})


def pairs(root):
    return {row["key"]: row for row in Dataset(root).rows("pairs")}


def test_a_model_measures_every_pair_beside_the_filters_without(photographs, weights, tmp_path, seen):
    build_here(with_filters(photographs, tmp_path / "dataset", presence=Model(weights=weights)))
    rows = pairs(tmp_path / "dataset")
    assert sorted(seen) == sorted(rows)
    assert all({"presence.mean", "alignment.shift"} & set(row["scores"]) for row in rows.values())
    assert all("presence.mean" in row["scores"] for row in rows.values())


def test_the_dearest_filter_sees_only_what_the_others_keep(photographs, weights, tmp_path, seen):
    halves = {"strength": Model(weights=weights, most=100.0), "presence": Dear(weights=weights)}
    build_here(with_filters(photographs, tmp_path / "dataset", **halves))
    seen_by_dear = {key for key, row in pairs(tmp_path / "dataset").items() if "presence.mean" in row["scores"]}
    dropped = {key for key, row in pairs(tmp_path / "dataset").items() if row["reason"] == "too_bright"}
    assert dropped
    assert seen_by_dear
    assert seen_by_dear == set(pairs(tmp_path / "dataset")) - dropped
    assert len(seen) == len(pairs(tmp_path / "dataset")) + len(seen_by_dear)


def test_a_loosened_threshold_shows_the_dearest_filter_what_it_has_not_seen(photographs, weights, tmp_path, seen):
    root = tmp_path / "dataset"
    build_here(
        with_filters(photographs, root, strength=Model(weights=weights, most=100), presence=Dear(weights=weights))
    )
    before = {key for key, row in pairs(root).items() if "presence.mean" in row["scores"]}
    seen.clear()
    build_here(
        with_filters(photographs, root, strength=Model(weights=weights, most=999), presence=Dear(weights=weights))
    )
    assert before < {key for key, row in pairs(root).items() if "presence.mean" in row["scores"]}
    assert set(pairs(root)) == {key for key, row in pairs(root).items() if not row["reason"]}


def test_other_weights_under_the_same_name_are_measured_again(photographs, weights, tmp_path, seen):
    settings = with_filters(photographs, tmp_path / "dataset", presence=Model(weights=weights))
    build_here(settings)
    identity = json.loads((tmp_path / "dataset" / "manifest.json").read_bytes())["models"]
    assert list(identity) == ["filters.presence.weights"]
    assert finished(settings)
    write_weights(weights, 2.0)
    assert not finished(settings)
    _, ran = build_here(settings)
    assert ran["measure pairs"]
    assert not ran["degrade"]
    changed = json.loads((tmp_path / "dataset" / "manifest.json").read_bytes())["models"]
    assert changed.keys() == identity.keys()
    assert changed != identity


def test_weights_that_are_not_there_are_told_before_anything_is_begun(photographs, tmp_path):
    settings = with_filters(photographs, tmp_path / "dataset", presence=Model(weights=str(tmp_path / "absent")))
    with pytest.raises(SettingsError, match="absent"):
        build_here(settings)
    assert not (tmp_path / "dataset" / ".work" / "crawl").exists()


def test_filters_that_need_weights_are_off_unless_the_settings_have_their_table(tmp_path):
    import filters

    base = {"seed": 1, "output": "o", "source": {"folder": "f"}}
    settings = parse_settings(base, origin="test", base=tmp_path)
    needy = [name for name in filters.names() if filters.load(name).needs_weights]
    assert not [name for name in needy if getattr(settings.filters, name)]
    assert run(["doctor", "--json"]) in (0, 1)
