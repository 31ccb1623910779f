"""Exchange: which photograph becomes which degradation at which severity. One bucket at a time.

A plan depends on its own bucket and the settings alone, so a photograph that is added changes the plan of its bucket
and no other. Within a bucket the types follow their weights by error diffusion, the levels of each type are filled
evenly, and a photograph is given the types that suit it first.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

import degradations
from degradations.pairs.coupled import COUPLED, check_name, steps_of

Row = Mapping[str, Any]

# RealRestorer, arXiv 2603.25502, Table 5, synthetic column.
REALRESTORER = {
    "rain": 84_968,
    "blur": 1_014_229,
    "low_light": 5_000,
    "haze": 103_971,
    "reflection": 68_227,
    "flare": 59_520,
    "moire": 99_085,
    "noise": 64_492,
    "compression": 68_000,
}
SUIT_WEIGHT = 0.9  # how many pairs of imbalance a perfect match may cost; below 1 so that counts stay within one


class Options(BaseModel, frozen=True, extra="forbid"):
    """What to make of the photographs.

    variants: pairs per photograph. preset: weights of the nine types. weights: replaces the preset; any degradation,
    combination (rain_haze) or list (blur+noise) by name. quotas: pairs per name over the whole dataset; replaces both.
    coupled: share of pairs that couple degradations, spread evenly over FoundIR's thirteen combinations. levels: the
    severity levels to fill. calibrate: whether each pair's severity is moved until its PSNR lies in the band that the
    strength filter holds its level to. validation: share of photographs kept for validation.
    """

    variants: Annotated[int, Field(ge=1, le=999)] = 9
    preset: Literal["equal", "realrestorer"] = "equal"
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    quotas: dict[str, Annotated[int, Field(ge=0)]] = {}
    coupled: Annotated[float, Field(ge=0, le=1)] = 0.0
    levels: Annotated[tuple[Annotated[int, Field(ge=1, le=5)], ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    calibrate: bool = False
    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.05

    @model_validator(mode="after")
    def _names_exist(self) -> "Options":
        for name in [*self.weights, *self.quotas]:
            check_name(name)
        if not any(self.shares().values()):
            raise ValueError("every weight is 0: nothing would be made")
        return self

    def shares(self) -> dict[str, float]:
        """Return name -> share of the pairs, adding up to one; names of share 0 are left out."""
        preset = REALRESTORER if self.preset == "realrestorer" else dict.fromkeys(REALRESTORER, 1)
        chosen: Mapping[str, float] = self.quotas or self.weights or preset
        total = sum(chosen.values())
        shares = {name: weight / total * (1 - self.coupled) for name, weight in chosen.items() if weight and total}
        for name in COUPLED if self.coupled else ():
            shares[name] = shares.get(name, 0) + self.coupled / len(COUPLED)
        return {name: share for name, share in shares.items() if share}


def plan_bucket(scenes: Sequence[Row], options: Options, *, seed: int) -> list[dict[str, Any]]:
    """Return the planned pairs of one bucket, in order of their keys.

    scenes: every decoded image of the bucket, kept or not, with `key`, `keep`, `split`, `group` and `scores`. Rows that
    are not kept take their turn in the counting but are planned no pairs: judging images anew moves no other plan.
    """
    ordered = sorted(scenes, key=lambda row: row["key"])
    shares = options.shares()
    counts, filled = dict.fromkeys(shares, 0), dict.fromkeys(shares, 0)
    planned = []
    for scene in ordered:
        taken = dict.fromkeys(shares, 0)
        for variant in range(options.variants):
            name = _next_name(shares, counts, taken, scene)
            counts[name] += 1
            taken[name] += 1
            severity_level = _next_level(options.levels, filled, name, seed)
            if scene["keep"]:
                planned.append(_row(scene, variant, name, severity_level, ordered, seed))
    return planned


def over_quota(planned: Sequence[Row], quotas: Mapping[str, int]) -> set[str]:
    """Return the keys to leave out so that no name exceeds its quota: those with the highest hashes."""
    surplus: set[str] = set()
    for name, quota in quotas.items():
        keys = sorted((row["key"] for row in planned if row["name"] == name), key=order)
        surplus.update(keys[quota:])
    return surplus


def order(key: str) -> str:
    """Return the hash by which pairs are shuffled and quotas are cut: unrelated to source, type and severity."""
    return hashlib.sha256(key.encode()).hexdigest()


def number(*parts: object) -> int:
    """Return a 63-bit integer that depends on all `parts`, the same on every machine."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def _next_name(shares: Mapping[str, float], counts: Mapping[str, int], taken: Mapping[str, int], scene: Row) -> str:
    made = sum(counts.values()) + 1

    def urgency(name: str) -> tuple[float, float, str]:
        deficit = shares[name] * made - counts[name]
        repeats = taken[name] / max(shares[name] * len(shares), 1e-9)  # a photograph gets every type before any twice
        return (deficit - repeats + SUIT_WEIGHT * suits(name, scene["scores"]), shares[name], name)

    return max(shares, key=urgency)


def _next_level(levels: Sequence[int], filled: dict[str, int], name: str, seed: int) -> int:
    turn, place = divmod(filled[name], len(levels))
    filled[name] += 1
    order_of_turn = sorted(levels, key=lambda item: number(seed, name, turn, item))
    return order_of_turn[place]


def _row(scene: Row, variant: int, name: str, level: int, bucket: Sequence[Row], seed: int) -> dict[str, Any]:
    key = f"{scene['key']}-{variant:03d}"
    drawn = number(seed, key, name) / 2**63
    return {
        "key": key,
        "source_key": scene["key"],
        "split": scene["split"],
        "name": name,
        "severity": round(0.2 * (level - 1) + 0.05 + 0.15 * drawn, 6),  # the upper three quarters of the level
        "level": level,
        "seed": number(seed, key, "pixels") >> 31,
        "overlay": _second_photograph(scene, key, name, bucket, seed),
    }


def _second_photograph(scene: Row, key: str, name: str, bucket: Sequence[Row], seed: int) -> str:
    if not any(degradations.load(step).overlay == "photograph" for step in steps_of(name)):
        return ""
    others = [row for row in bucket if row["split"] == scene["split"] and row["group"] != scene["group"]]
    return others[number(seed, key, "overlay") % len(others)]["key"] if others else ""


def suits(name: str, scores: Mapping[str, float]) -> float:
    """Return how well a photograph suits degradation or combination `name`, in [0, 1]; 0.5 when nothing is known."""
    if name == "blur" and "clip.speed" in scores:
        return 1.0  # nothing is more real than its own motion
    known = [SUITS[step](scores) for step in steps_of(name) if step in SUITS]
    return math.fsum(known) / len(known) if known else 0.5


def _ramp(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


# Haze and rain want distance, which open sky tells of; flare wants bright spots; darkening wants light; what stands
# behind the glass of a reflection is mostly a portrait (RealRestorer, arXiv 2603.25502, section 3.1), where CLIP has
# looked. Only what is measured of every photograph counts, so that no verdict and no annotation moves a plan.
SUITS: Mapping[str, Callable[[Mapping[str, float]], float]] = {
    "haze": lambda scores: 0.3 + 0.7 * _ramp(scores.get("clean.sky", 0.06), 0.0, 0.2),
    "rain": lambda scores: 0.3 + 0.7 * _ramp(scores.get("clean.sky", 0.06), 0.0, 0.2),
    "flare": lambda scores: _ramp(scores.get("clean.highlight_fraction", 0.005), 0.0, 0.01),
    "low_light": lambda scores: _ramp(scores.get("clean.mean_luminance", 0.2), 0.05, 0.35),
    "reflection": lambda scores: 0.3 + 0.7 * scores.get("clip.portrait", 2 / 7),
}
