"""RealIR-Bench's grade of one named degradation (RealRestorer, arXiv 2603.25502, Fig. 9), in words of our own.

A grade is 5 where the degradation is absent and 1 where it spoils more than four fifths of the picture; the text of the
paper says 0 to 5, its figure and its code 1 to 5.
"""

import re

GRADES = range(1, 6)
UNREADABLE = 0  # stands where a grade would: the model answered with something else

_NAMES = {
    "blur": "blur (from motion or from missed focus)",
    "compression": "compression artifacts (blocks, ringing, banding)",
    "flare": "lens flare (streaks, ghosts or a veil around lights)",
    "haze": "haze (a veil that takes contrast with distance)",
    "low_light": "low light (underexposure)",
    "moire": "moire patterns",
    "noise": "noise (grain or coloured speckle)",
    "rain": "rain (streaks, splashes or drops)",
    "raindrop": "raindrops on the lens or on glass",
    "reflection": "reflections on glass",
}
_ANSWER = re.compile(
    r"(?:degradation score|\u9000\u5316\u5206\u6570)\s*[:\uff1a]\s*([1-5])\s*[.\u3002]?", re.IGNORECASE
)


def prompt(name: str) -> str:
    """Return the question about the degradation `name`."""
    degradation = _NAMES.get(name, name.replace("_", " "))
    return (
        f"Grade this picture for one degradation only: {degradation}. Its subject, its beauty and every other flaw do "
        "not count.\n"
        "Lay a grid of 3 x 3 cells over the picture. Look at each cell: is the degradation there, how strong is it, "
        "and how much of the cell does it take? Let the worst cells weigh most, and sum up in one whole number:\n"
        "5 = it is nowhere\n"
        "4 = slight, on at most 20 % of the area\n"
        "3 = moderate, on 20 to 50 % of the area\n"
        "2 = severe, on 50 to 80 % of the area\n"
        "1 = extreme, on more than 80 % of the area\n"
        "Do not explain. Reply with this one line, n being the number:\n"
        "Degradation Score: n"
    )


def grade(answer: str) -> int:
    """Return the grade, 1 to 5, if the answer is the one line asked for, English or Chinese, else UNREADABLE."""
    found = _ANSWER.fullmatch(answer.strip())
    return int(found[1]) if found else UNREADABLE
