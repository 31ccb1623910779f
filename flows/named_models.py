"""Which models the settings name, and what is wrong with them, told in a sentence before anything is begun."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from flows.settings import WEIGHTS, Settings
from storage.errors import PairForgeError, SettingsError
from storage.weights import check_safetensors, is_hub_reference, locate, read_config
from tasks.annotators.midas import KINDS


def named_models(settings: Settings) -> dict[str, str]:
    """Return setting -> reference of every model that is named: weights, or the name a server knows it by."""
    options = settings.annotate
    named = {f"annotate.{kind}_weights": getattr(options, f"{kind}_weights") for kind in ("depth", "segments")}
    for name, item in (settings.filters_of("image") | settings.filters_of("pair")).items():
        named |= {f"filters.{name}.{option}": reference for option, reference in item.models().items()}
    return {setting: reference for setting, reference in named.items() if reference}


def unnamed_models(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield each setting that must name a model and does not, and what is to be done."""
    for name, item in (settings.filters_of("image") | settings.filters_of("pair")).items():
        if option := item.lacks():
            what = "a server's url or a folder as weights" if option.endswith("url") else "a folder or hub-id@revision"
            yield f"filters.{name}.{option}", f"name {what}, or remove [filters.{name}]"


def check_weights(settings: Settings, setting: str, reference: str) -> int:
    """Return the bytes of the weights that a setting names, each file opened; 0 for those that the hub will send.

    Raises SettingsError or ShardError, naming the setting, when they are not there, not whole or of another model.
    """
    if is_hub_reference(reference):
        return 0
    try:
        path = locate(reference)
        size = sum(file.stat().st_size for file in check_safetensors(path))
        _check_kind(path, *_expected(settings, setting))
    except PairForgeError as error:
        raise type(error)(f"{setting}: {error}") from error
    return size


def check_models(settings: Settings) -> None:
    """Raise SettingsError or ShardError, with the key, unless every model is named and its files are whole."""
    for setting, fix in unnamed_models(settings):
        raise SettingsError(f"{setting} is not set: {fix}")
    for setting, reference in named_models(settings).items():
        if setting.endswith(WEIGHTS):
            check_weights(settings, setting, reference)


def _expected(settings: Settings, setting: str) -> tuple[str, tuple[str, ...]]:
    """Return the file that tells what the weights of a setting are, empty where none does, and what they may be."""
    table, *name, option = setting.split(".")
    if table == "filters" and option == "weights" and len(name) == 1:
        found: tuple[str, tuple[str, ...]] = getattr(settings.filters, name[0]).checkpoint
        return found
    return ("config.json", tuple(KINDS)) if setting == "annotate.depth_weights" else ("", ())


def _check_kind(path: Path, name: str, kinds: Sequence[str]) -> None:
    if not name:
        return
    if not (path / name).is_file():
        raise SettingsError(f"{path} holds no {name}: it is no checkpoint of this model's; name another folder")
    kind = read_config(path / name).get("model_type")
    if kinds and kind not in kinds:
        raise SettingsError(f"{path / name} is of a {kind!r} model, expected {' or '.join(kinds)}; name another folder")
