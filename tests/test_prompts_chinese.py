"""Prompts in two languages, for a share of the examples each."""

import degradations
from tasks.prompts import CHINESE, GENERAL_CHINESE, PROMPTS, worded


def test_every_task_with_a_prompt_has_a_chinese_one():
    assert CHINESE.keys() == PROMPTS.keys() <= set(degradations.names())
    assert len(set(CHINESE.values())) == len(CHINESE)
    assert all(not text.isascii() for text in CHINESE.values())


def test_a_share_of_the_draws_is_worded_in_chinese():
    wording = worded(0.25)
    assert wording("haze", "Please dehaze the image", 0.2) == CHINESE["haze"]
    assert wording("haze", "Please dehaze the image", 0.25) == "Please dehaze the image"
    assert wording("rain_haze", "Restore", 0.0) == GENERAL_CHINESE
    assert worded(0.0)("haze", "as it is", 0.0) == "as it is"
