"""Does this response give that answer? Exact, without regex and without eval, for any string at all.

First the final answer is found, then both sides are read as a rational number and compared as one; what is
not a number counts only if it is the same text. A model's output is hostile input: nothing here raises, and
the work is bounded by the length of the response, which is read from its end and only so far.
"""

from fractions import Fraction

LONGEST = 100_000  # characters of a response that are looked at, from its end
LONGEST_ANSWER = 200  # characters of an answer that are read as a number


def is_correct(response: str, answer: str) -> bool:
    """Whether the response's final answer equals the reference. Never raises; a response without an answer is
    wrong."""
    found = extract_answer(response)
    if found is None:
        return False
    given, wanted = number(found), number(extract_answer(answer) or answer)
    if given is None or wanted is None:
        return found.strip() == answer.strip() != ""
    return given == wanted


def extract_answer(response: str) -> str | None:
    r"""The final answer, by authority: the last \boxed{}, ####, <answer></answer>, "the answer is", a bare
    short reply."""
    text = response[-LONGEST:].rpartition("</think>")[2]
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    for marker, end in (("####", "\n"), ("<answer>", "</answer>")):
        _, found, rest = text.rpartition(marker)
        if found:
            return rest.partition(end)[0].strip()
    at = text.lower().rfind("the answer is")
    if at >= 0:
        return text[at + len("the answer is") :].partition("\n")[0].strip().removesuffix(".").lstrip(": ")
    bare = text.strip()
    return bare if 0 < len(bare) <= LONGEST_ANSWER and "\n" not in bare else None


def last_boxed(text: str) -> str | None:
    """What stands in the last \\boxed{}, braces matched; None if there is none or it never closes."""
    _, found, rest = text.rpartition("\\boxed{")
    depth = 1
    for i, character in enumerate(rest if found else ""):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[:i].strip()
    return None


def number(text: str) -> Fraction | None:
    """An integer, decimal, fraction a/b or \\frac{a}{b}, or percent, with sign and thousands separators; else
    None."""
    text = text.strip().strip("$").strip().removesuffix(".")
    if len(text) > LONGEST_ANSWER:
        return None
    sign = 1
    if text[:1] in ("-", "+", "\u2212"):
        sign, text = (1 if text[0] == "+" else -1), text[1:].lstrip("$ ")
    for percent in ("\\%", "%"):
        if text.endswith(percent):
            value = number(text.removesuffix(percent))
            return None if value is None else sign * value / 100
    for command in ("\\frac", "\\dfrac", "\\tfrac"):
        if text.startswith(command + "{") and text.endswith("}"):
            text = text[len(command) + 1 : -1].replace("}{", "/", 1)
    top, slash, bottom = text.partition("/")
    a, b = decimal(top), decimal(bottom) if slash else Fraction(1)
    return None if a is None or not b else sign * a / b


def decimal(text: str) -> Fraction | None:
    """Digits with one point at most, and thousands marked by commas in their right places; else None."""
    whole, point, part = text.strip().partition(".")
    groups = whole.replace("{,}", ",").split(",")
    if len(groups) > 1 and not (1 <= len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])):
        return None
    digits = "".join(groups) + part
    if not (digits.isascii() and digits.isdigit()) or (point and not part):
        return None
    return Fraction(int(digits), 10 ** len(part))
