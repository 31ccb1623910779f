"""Exchange: train or validation, decided once per group of photographs that show the same, never per pair."""

from collections.abc import Mapping

TRAIN, VALIDATION = "train", "validation"


def with_siblings(group_of: Mapping[str, str], source_of: Mapping[str, str]) -> dict[str, str]:
    """Return `group_of` with groups joined that hold images of one source: the clips of a video belong together.

    source_of: key -> source. A joined group is named for the smallest of the names it is joined from.
    """
    parent = {group: group for group in group_of.values()}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    first: dict[str, str] = {}
    for key, group in sorted(group_of.items()):
        low, high = sorted((root(first.setdefault(source_of[key], group)), root(group)))
        parent[high] = low
    return {key: root(group) for key, group in group_of.items()}


def split_by_group(group_of: Mapping[str, str], *, fraction: float) -> dict[str, str]:
    """Return key -> split; a group goes to validation when its hash, read as a number in [0, 1), is below `fraction`.

    group_of: key -> the key (hex) of its group's first member. If `fraction` is positive but no group falls below it,
    the group with the lowest hash goes to validation as long as two groups exist, so that both splits are there.
    """
    groups = sorted(set(group_of.values()))
    chosen = {group for group in groups if _position(group) < fraction}
    if fraction > 0 and not chosen and len(groups) > 1:
        chosen = {min(groups, key=_position)}
    return {key: VALIDATION if group in chosen else TRAIN for key, group in group_of.items()}


def _position(key: str) -> float:
    return int(key[-12:], 16) / 16**12  # the tail: the head of the hash already decides the bucket
