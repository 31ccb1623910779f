"""What a pair asks of a restorer: one fixed prompt per task (RealRestorer's README; arXiv 2603.25502 section 3.2)."""

from dataclasses import dataclass

from degradations.pairs.coupled import steps_of

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
# The same in Chinese; the released twins are not at hand, so the wording is ours.
CHINESE = {
    "blur": "请去除图像模糊，使其更清晰",
    "compression": "请恢复图像清晰度，去除压缩伪影。",
    "flare": "请去除图像中的镜头光晕和眩光。",
    "haze": "请对图像去雾",
    "low_light": "请修复这张低质量图像，恢复其正常亮度和清晰度。",
    "moire": "请去除图像中的摩尔纹",
    "noise": "请去除图像中的噪声。",
    "rain": "请去除图像中的雨水，恢复其清晰度。",
    "reflection": "请去除图像中的反光。",
}
GENERAL = "Restore the details and keep the original composition."


GENERAL_CHINESE = "恢复图像细节，保持原有构图。"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worded:
    """The prompt of a pair: its own instruction, or for a share `chinese` of the draws the Chinese one of its task."""

    chinese: float

    def __call__(self, task: str, instruction: str, draw: float) -> str:
        """Return the prompt for a draw within [0, 1)."""
        return CHINESE.get(task, GENERAL_CHINESE) if draw < self.chinese else instruction


def worded(chinese: float) -> Worded:
    """Return the wording for trainings: a record and no closure, so that processes can be handed it."""
    return Worded(chinese=chinese)


def instruction(name: str) -> str:
    """Return the prompt of a degradation; what has no published prompt, combinations too, gets the general one."""
    steps = steps_of(name)
    return PROMPTS.get(steps[0], GENERAL) if len(steps) == 1 else GENERAL
