"""Which model backends could be used, and are those that a settings file names there and whole?"""

import importlib.util
import socket
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import filters
from flows.findings import Finding, finding
from flows.named_models import check_weights, named_models, unnamed_models
from flows.settings import WEIGHTS, Settings
from storage.errors import PairForgeError
from storage.weights import is_hub_reference
from tasks import annotators

EXTRA = "pip install -e '.[models]'"
REACH = 3.0  # seconds


def backends() -> Iterator[Finding]:
    """Every backend with a model: whether what it imports is there; its weights are the user's."""
    for name in annotators.names():
        if libraries := annotators.libraries(name):
            yield _backend(f"annotator {name}", libraries, "[annotate] with its weights")
    for name in filters.names():
        kind = filters.load(name)
        if kind.needs_weights:
            yield _backend(f"filter {name}", kind.libraries, f"[filters.{name}] with its weights")


def named(settings: Settings) -> Iterator[Finding]:
    """Every model that the settings name: its weights lie here and are whole, or its server answers."""
    for setting, fix in unnamed_models(settings):
        yield finding(setting, good=False, found="not set", fix=fix)
    for setting, reference in named_models(settings).items():
        if setting.endswith(WEIGHTS):
            yield _weights(settings, setting, reference)
    for name, item in {**settings.filters_of("image"), **settings.filters_of("pair")}.items():
        for prefix, place in (("", item), ("second.", getattr(item, "second", None))):
            if url := getattr(place, "url", ""):
                yield _answers(f"filters.{name}.{prefix}url", url)


def _backend(name: str, libraries: Sequence[str], switch: str) -> Finding:
    absent = [library for library in libraries if importlib.util.find_spec(library) is None]
    found = f"not usable: {', '.join(absent)} not installed" if absent else f"usable: {switch} switches it on"
    return finding(name, not absent, found, EXTRA, otherwise="info")


def _weights(settings: Settings, setting: str, reference: str) -> Finding:
    if is_hub_reference(reference):
        return finding(setting, good=True, found=f"{reference} is fetched from the hub when it is first used")
    try:
        size = check_weights(settings, setting, reference)
    except PairForgeError as error:
        found = str(error).removeprefix(f"{setting}: ")
        return finding(setting, good=False, found=found, fix=f"correct {setting} in the settings file")
    return finding(setting, good=True, found=f"{reference}: {size / 1e9:.2f} GB, each file opened")


def _answers(setting: str, url: str) -> Finding:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=REACH).close()
    except OSError as error:
        return finding(setting, good=False, found=f"{url}: {error}", fix=f"start that server, or correct {setting}")
    return finding(setting, good=True, found=f"{url} accepts connections")
