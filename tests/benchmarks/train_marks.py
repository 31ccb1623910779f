# ruff: noqa: T201  it prints its progress
"""Fit the network of `filters/_marks.py` on marks planted on photographs.

    python tests/benchmarks/train_marks.py PHOTOGRAPHS FONTS filters/_marks.json --minutes 20

PHOTOGRAPHS: a folder of photographs without marks, others than those that measure; FONTS: a folder of .ttf and .otf.
One photograph in ten is held out and says at the end how the network does. torch, on one thread.
"""

import argparse
import base64
import json
import math
import string
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from filters._marks import BLOCKS, CELL, inputs, network, places, planes, stored
from tests.benchmarks.planted_marks import KINDS, Hand, laid, mask_of, plant

SHORT, SIDE, BATCH = 512, 192, 24  # pixels of the copies and of the crops; crops at a time
WIDTHS = (16, 24, 48, 64)
WORDS = ("studio", "gallery", "images", "proof", "photo", "free", "trial", "watermark", "licensed", "press", "media")
WORDS += ("pictures", "archive", "view", "travel", "wedding", "nature", "agency", "edition", "print", "original")
SHARES = {"tiled": 0.15, "corner": 0.3, "logo": 0.2, "centre": 0.15, "band": 0.2}
PLANES, PLACES = 6, 5
MINED = 0.3  # of the crops without a mark, how many are where the network was wrong
MINE_EVERY = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A part of a photograph as a copy with a shorter side of 512 pixels: `scale` of its pixels are one of the copy."""

    photograph: np.ndarray
    scale: float
    shape: tuple[int, int]


def word(rng):
    """Return letters as they stand in marks: a word or two, an address, a name and a year, or any letters."""
    if rng.random() < 0.5:
        letters = rng.choice(list(string.ascii_letters + "    .-_@&"), int(rng.integers(4, 16)))
        return "x" + "".join(letters)
    first, second = rng.choice(WORDS, 2)
    year = rng.integers(1995, 2027)
    forms = (f"{first} {second}", f"(c) {first} {year}", f"www.{first}{second}.net", f"@{first}.{second}", f"{first}")
    text = forms[rng.integers(len(forms))]
    return (text, text.upper(), text.title())[rng.integers(3)]


def view(rng, photograph):
    """Return a random part of a photograph, perhaps mirrored."""
    share = rng.uniform(0.6, 1)
    rows, columns = (int(size * share) for size in photograph.shape[:2])
    top, left = (int(rng.integers(0, n - m + 1)) for n, m in zip(photograph.shape[:2], (rows, columns), strict=True))
    return whole(photograph[top : top + rows, left : left + columns][:, :: rng.choice([-1, 1])])


def whole(photograph):
    """Return all of a photograph as a view."""
    scale = min(photograph.shape[:2]) / SHORT
    return View(photograph=photograph, scale=scale, shape=tuple(round(n / scale) for n in photograph.shape[:2]))


def seen_at(one, row, column):
    """Return the crop of a view at (row, column)."""
    top, left, side = (round(n * one.scale) for n in (row, column, SIDE))
    top, left = min(top, one.photograph.shape[0] - side), min(left, one.photograph.shape[1] - side)
    part = np.ascontiguousarray(one.photograph[max(top, 0) : top + side, max(left, 0) : left + side])
    return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA if one.scale > 1 else cv2.INTER_CUBIC)


def toned(rng, image):
    """Return an image in another tone."""
    tone = 255 * (np.arange(256) / 255) ** rng.uniform(0.7, 1.4)
    return cv2.LUT(image, tone.astype(np.uint8))


def recompressed(rng, image):
    """Return an image as JPEG leaves it, most times."""
    if rng.random() < 0.4:
        return image
    quality = int(rng.integers(55, 98))
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def place_in(rng, mask):
    """Return where to crop so that some of a mark is inside, row and column."""
    rows, columns = np.nonzero(mask > 0.3)
    if not len(rows):
        return tuple(int(rng.integers(0, size - SIDE + 1)) for size in mask.shape)
    index = rng.integers(len(rows))
    up, left = rng.integers(24, SIDE - 24, 2)
    return held(mask.shape, rows[index] - up, columns[index] - left)


def held(shape, row, column):
    """Return the place of a crop moved inside an image of `shape`."""
    return tuple(int(np.clip(at, 0, size - SIDE)) for at, size in zip((row, column), shape, strict=True))


def labels(mask, shape, row, column):
    """Return for each cell 1 with a mark, 0 without, and -1 where it is not asked: on edges of either."""
    near = cv2.dilate((mask > 0.3).astype(np.float32), np.ones((11, 11), np.uint8))
    share = cv2.resize(near, (SIDE // CELL,) * 2, interpolation=cv2.INTER_AREA)
    wanted = np.where(share > 0.4, 1, np.where(share > 0.02, -1, 0))
    return inside(wanted, shape, row, column)


def inside(wanted, shape, row, column):
    """Return `wanted` with -1 in the outermost cells, where the crop cuts off what the network should see."""
    asked = np.zeros(wanted.shape, bool)
    top, left = int(row > 0), int(column > 0)
    bottom, right = (int(at + SIDE < size) for at, size in zip((row, column), shape, strict=True))
    asked[top : len(asked) - bottom, left : len(asked) - right] = True
    return np.where(asked, wanted, -1)


def example(rng, photographs, hand, mined, marked):
    """Return planes, places and labels of one crop."""
    if not marked and mined and rng.random() < MINED:
        one, row, column = mined[rng.integers(len(mined))]
        row, column = held(one.shape, row + rng.integers(-12, 13), column + rng.integers(-12, 13))
        mask = None
    else:
        one = view(rng, photographs[rng.integers(len(photographs))])
        kind = rng.choice(KINDS, p=[SHARES[name] for name in KINDS])
        mask = mask_of(rng, one.shape, kind, hand)
        if rng.random() < 0.3:
            mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.4, 0.8))
        row, column = place_in(rng, mask)
        mask = mask[row : row + SIDE, column : column + SIDE]
    image = toned(rng, seen_at(one, row, column))
    wanted = inside(np.zeros((SIDE // CELL,) * 2, int), one.shape, row, column)
    if marked:
        alpha, shift = rng.uniform(0.15, 0.7), int(rng.random() < 0.25)
        image, wanted = laid(rng, image, mask, alpha, shift), labels(mask, one.shape, row, column)
    where = places(one.shape, (row, column), wanted.shape)
    return planes(recompressed(rng, image)), where, wanted


class Block(nn.Module):
    """x + relu(normalised(mixed(spread(x))))."""

    def __init__(self, width):
        super().__init__()
        self.spread = nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False)
        self.mix = nn.Conv2d(width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, seen):
        return seen + functional.relu(self.norm(self.mix(self.spread(seen))))


class Network(nn.Module):
    """The network of `filters/_marks.py` with normalisation, as it is fitted."""

    def __init__(self):
        super().__init__()
        self.downs, self.norms, self.stages = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = PLANES
        for width, blocks in zip(WIDTHS, BLOCKS, strict=True):
            self.downs.append(nn.Conv2d(before, width, 3, 2, 1, bias=False))
            self.norms.append(nn.BatchNorm2d(width))
            self.stages.append(nn.Sequential(*(Block(width) for _ in range(blocks))))
            before = width
        self.place = nn.Conv2d(before + PLACES, before, 1, bias=False)
        self.place_norm = nn.BatchNorm2d(before)
        self.answer = nn.Conv2d(before, 1, 1)
        nn.init.constant_(self.answer.bias, -2.0)

    def forward(self, seen, where):
        for stage, (down, norm, blocks) in enumerate(zip(self.downs, self.norms, self.stages, strict=True)):
            seen = functional.relu(norm(down(seen)))
            if stage == len(WIDTHS) - 1:
                seen = functional.relu(self.place_norm(self.place(torch.cat([seen, where], 1))))
            seen = blocks(seen)
        return self.answer(seen)[:, 0]


def folded(net):
    """Return the weights as `filters/_marks.py` reads them, normalisation folded in."""
    found = {}

    def keep(name, conv, norm, flat):
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        kernel = conv.weight * factor[:, None, None, None]
        found[name] = kernel[:, :, 0, 0] if flat else kernel
        found[f"{name}.bias"] = norm.bias - norm.running_mean * factor

    for stage, (down, norm, blocks) in enumerate(zip(net.downs, net.norms, net.stages, strict=True)):
        keep(f"{stage}.down", down, norm, False)
        for index, block in enumerate(blocks):
            found[f"{stage}.{index}.spread"] = block.spread.weight[:, 0]
            keep(f"{stage}.{index}.mix", block.mix, block.norm, True)
    keep("place", net.place, net.place_norm, True)
    found["answer"], found["answer.bias"] = net.answer.weight[0, :, 0, 0], net.answer.bias[0]
    return {name: value.detach().numpy() for name, value in found.items()}


def unfolded(fitted):
    """Return a network with the weights of `fitted`; its normalisation passes on what it gets."""
    net = Network()

    def set_to(name, conv, norm):
        kernel = torch.from_numpy(fitted[name])
        conv.weight.data.copy_(kernel.reshape(conv.weight.shape))
        if norm is not None:
            norm.weight.data.fill_(math.sqrt(1 + norm.eps))
        (conv if norm is None else norm).bias.data.copy_(torch.from_numpy(fitted[f"{name}.bias"]))

    for stage, (down, norm, blocks) in enumerate(zip(net.downs, net.norms, net.stages, strict=True)):
        set_to(f"{stage}.down", down, norm)
        for index, block in enumerate(blocks):
            block.spread.weight.data.copy_(torch.from_numpy(fitted[f"{stage}.{index}.spread"])[:, None])
            set_to(f"{stage}.{index}.mix", block.mix, block.norm)
    set_to("place", net.place, net.place_norm)
    set_to("answer", net.answer, None)
    return net


def learning(net, steady_norms):
    """Put a network in the mode of fitting; with steady norms those keep what they have."""
    net.train()
    for module in net.modules():
        if steady_norms and isinstance(module, nn.BatchNorm2d):
            module.eval()


def loss_of(answer, wanted):
    """Return the cross-entropy of the cells and of each crop's best: one cell is enough to lose a photograph."""
    asked = wanted >= 0
    cells = functional.binary_cross_entropy_with_logits(answer[asked], (wanted[asked] == 1).float())
    best = torch.where(asked, answer, -30.0).flatten(1).logsumexp(1)
    marked = (wanted == 1).flatten(1).any(1)
    unmarked = (wanted <= 0).flatten(1).all(1) & (wanted == 0).flatten(1).any(1)
    known = marked | unmarked
    return cells + 0.3 * functional.binary_cross_entropy_with_logits(best[known], marked[known].float())


def mine(rng, net, photographs, count):
    """Return where the network sees marks that are not there: (view, row, column)."""
    net.eval()
    found = []
    for index in rng.permutation(len(photographs))[:count]:
        one = whole(photographs[index][:, :: rng.choice([-1, 1])])
        image = cv2.resize(np.ascontiguousarray(one.photograph), one.shape[::-1], interpolation=cv2.INTER_AREA)
        with torch.no_grad():
            answer = net(*(torch.from_numpy(part)[None] for part in inputs(image)))[0].numpy().copy()
        for _ in range(3):
            row, column = np.unravel_index(int(answer.argmax()), answer.shape)
            if answer[row, column] < -3:
                break
            found.append((one, *held(one.shape, row * CELL - SIDE // 2, column * CELL - SIDE // 2)))
            answer[max(row - 5, 0) : row + 6, max(column - 5, 0) : column + 6] = -30
    return found


def fit(photographs, hand, seconds, start=None):
    """Return a network fitted for about so many CPU-seconds, or three times as many by the clock.

    start: weights to go on from, with a smaller step; none begins anew.
    """
    rng = np.random.default_rng(int(start is not None))
    torch.manual_seed(0)
    net = (unfolded(start) if start else Network()).to(memory_format=torch.channels_last)
    highest = 1e-3 if start else 4e-3
    learning(net, bool(start))
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)
    steady = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=average, use_buffers=True)
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-3)
    began, clock, step, mined, means = time.process_time(), time.monotonic(), 0, [], []
    while (share := max(time.process_time() - began, (time.monotonic() - clock) / 3) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = highest * min(1, step / 50) * 0.5 * (1 + math.cos(math.pi * share)) + 1e-5
        batch = [example(rng, photographs, hand, mined, index % 2 == 0) for index in range(BATCH)]
        seen, where, wanted = (torch.from_numpy(np.stack(one)) for one in zip(*batch, strict=True))
        loss = loss_of(net(seen.to(memory_format=torch.channels_last), where), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        steady.update_parameters(net)
        means.append(loss.item())
        step += 1
        if step % 50 == 0:
            print(f"{step} {share:.2f} loss {np.mean(means[-50:]):.3f}", flush=True)
        if step % MINE_EVERY == (1 if start else 0) and share < 0.9:
            mined = (mined + mine(rng, net, photographs, 120))[-1500:]
            learning(net, bool(start))
            print(f"mined {len(mined)}", flush=True)
    return steady.module.eval()


def content_of(fitted):
    """Return weights as `filters/_marks.py` stores them."""
    values = b"".join(value.astype("<f2").tobytes() for value in fitted.values())
    shapes = {name: list(value.shape) for name, value in fitted.items()}
    return {"shapes": shapes, "values": base64.b64encode(values).decode()}


def read(folder):
    """Return the photographs of a folder, RGB."""
    return [cv2.imread(str(file))[..., ::-1] for file in sorted(folder.rglob("*.*"))]


def held_out(photographs, fitted, hand):
    """Print recall at 1 % false alarms on whole photographs, by kind, for several ways to sum up the cells."""
    kinds, rows = [], []
    for index, photograph in enumerate(photographs):
        rng = np.random.default_rng(index)
        one = whole(photograph)
        image = cv2.resize(np.ascontiguousarray(photograph), one.shape[::-1], interpolation=cv2.INTER_AREA)
        for kind in ("", "", *KINDS):
            shown = toned(rng, image)
            if kind:
                shown = plant(rng, shown, kind, hand)[0]
            answer = network(*inputs(recompressed(rng, shown)), fitted)
            kinds.append(kind)
            rows.append(summaries(answer))
    kinds = np.array(kinds)
    for name in rows[0]:
        score = np.array([row[name] for row in rows])
        limit = np.quantile(score[kinds == ""], 0.99)
        shares = " ".join(f"{kind} {np.mean(score[kinds == kind] > limit):.2f}" for kind in KINDS)
        print(f"{name:8s} limit {limit:.2f} of {(kinds == '').sum()}: {shares}")


def summaries(answer):
    """Return some ways to sum up the log odds of the cells of an image."""
    near = cv2.blur(answer, (3, 3), borderType=cv2.BORDER_REPLICATE)
    line = cv2.blur(answer, (5, 1), borderType=cv2.BORDER_REPLICATE)
    ordered = np.sort(answer, axis=None)[::-1]
    odds = np.maximum(answer, 0)
    return {
        "max": ordered[0],
        "near": near.max(),
        "line": line.max(),
        "top4": ordered[:4].mean(),
        "top8": ordered[:8].mean(),
        "top16": ordered[:16].mean(),
        "sum": odds.sum(),
        "all": answer.mean(),
    }


def main():
    """Fit, write and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("fonts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--start", type=Path, help="weights to go on from")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    photographs = read(given.photographs)
    fonts = sorted([*given.fonts.rglob("*.ttf"), *given.fonts.rglob("*.otf")])
    hand = Hand(fonts=tuple(fonts), word=word)
    print(f"{len(photographs)} photographs, {len(fonts)} fonts")
    start = stored(given.start) if given.start else None
    others = [one for index, one in enumerate(photographs) if index % 10]
    fitted = folded(fit(others, hand, given.minutes * 60, start))
    given.out.write_text(json.dumps(content_of(fitted)))
    held_out(photographs[::10], fitted, hand)


if __name__ == "__main__":
    main()
