"""What a pair asks of a restorer: one fixed prompt per task (RealRestorer's README; arXiv 2603.25502 section 3.2)."""

from degradations._coupled import steps_of

PROMPTS = {
    "blur": "Please deblur the image and make it sharper",
    "compression": "Please restore the image clarity and artifacts.",
    "flare": "Please remove the lens flare and glare from the image.",
    "haze": "Please dehaze the image",
    "low_light": "Please restore this low-quality image, recovering its normal brightness and clarity.",
    "moire": "Please remove the moir\u00e9 patterns from the image",
    "noise": "Please remove noise from the image.",
    "rain": "Please remove the rain from the image and restore its clarity.",
    "reflection": "Please remove the reflection from the image.",
}
GENERAL = "Restore the details and keep the original composition."


def instruction(name: str) -> str:
    """Return the prompt of a degradation; what has no published prompt, combinations too, gets the general one."""
    return PROMPTS.get(name, GENERAL) if len(steps_of(name)) == 1 else GENERAL
