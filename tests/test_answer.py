"""The first answer checker: what counts as right, and that no string at all upsets it."""

import random
import string

import pytest

from bridge_min.answer import extract_answer, is_correct

RIGHT = [
    ("#### 12", "12"),
    ("7+5=12\n#### 12", "12"),
    ("first #### 3\nthen #### 4\n", "4"),
    (r"so \boxed{\frac{1}{2}}", "0.5"),
    (r"\boxed{1} or rather \boxed{2}", "2"),
    ("<answer> -7 </answer>", "-7"),
    ("The answer is 1,234.", "1234"),
    ("the answer is: $5", "5"),
    ("5", "5.0"),
    ("1/3", "2/6"),
    ("50%", "0.5"),
    (r"50\%", "1/2"),
    ("+3", "3"),
    ("\u22123", "-3"),
    ("<think>#### 9</think> #### 4", "4"),
    ("#### 0.1", "1/10"),
    ("Paris", "Paris"),
]
WRONG = [
    ("#### 13", "12"),
    ("12 is close, but no answer\nis marked", "12"),
    ("", "12"),
    ("####", "12"),
    ("#### 12 or 13", "12"),
    ("#### 1,23", "123"),
    ("#### 0.333", "1/3"),
    ("#### 1/0", "1"),
    ("#### 0/0", "0"),
    ("#### \u0661\u0662", "12"),
    ("#### 1_000", "1000"),
    ("#### 1e3", "1000.5"),
    ("<think>#### 12</think> it is 13", "12"),
    (r"\boxed{12", "12"),
    ("#### --12", "12"),
    ("#### 12", "-12"),
    ("", ""),
    ("#### nan", "0"),
    ("#### 1.2.3", "1.23"),
    ("#### 12.", "13"),
]


@pytest.mark.parametrize("response, answer", RIGHT)
def test_right(response, answer):
    assert is_correct(response, answer)


@pytest.mark.parametrize("response, answer", WRONG)
def test_wrong(response, answer):
    assert not is_correct(response, answer)


def test_authority_of_the_places():
    assert extract_answer(r"#### 1 the answer is 2 \boxed{3}") == "3"
    assert extract_answer("the answer is 2 <answer>4</answer> #### 1") == "1"
    assert extract_answer("the answer is 2\n<answer>4</answer>") == "4"
    assert extract_answer(r"\boxed{a{b}c}") == "a{b}c"
    assert extract_answer("two\nlines") is None


def test_any_string_is_survived():
    draw = random.Random(0)
    pieces = [
        "####",
        r"\boxed{",
        "}",
        "{",
        "<answer>",
        "</answer>",
        "the answer is",
        "-",
        "%",
        "/",
        ",",
        ".",
        "$",
    ]
    pieces += [r"\frac{", "</think>", "9" * 50, "\ud800", "\x00", "\n", " ", "١", *string.printable]
    for _ in range(5000):
        text = "".join(draw.choices(pieces, k=draw.randrange(12)))
        assert is_correct(text, "12") in (True, False)
        assert is_correct("12", text) in (True, False)
    for text in (
        "9" * 10**6,
        "{" * 10**6,
        r"\boxed{" * 10**5,
        "#### " + "%" * 10**6,
        "-" * 10**6,
        "#### " + "%" * 190,
    ):
        assert not is_correct(text, "12")
