r"""Does this response give that answer? The reward of reinforcement learning from verifiable rewards.

    is_correct(r"... so $x = \boxed{\tfrac{2}{4}}$.", "0.5")     True
    is_correct(r"\boxed{1 \text{ or } 2}", "2")                  False: two answers to one question

A false reject teaches a model that right is wrong; a false accept is what it will learn to exploit. So an
answer is read by a grammar and compared as mathematics, and doubt is a no. In the order of reading:

    find.py      the last \boxed{}, ####, <answer>, "the answer is", or a short bare reply
    words.py     what words beside mathematics mean: units, what is counted, announcements
    tokens.py    Unicode, LaTeX and plain text become one list of tokens
    grammar.py   recursive descent to a tree of tuples, (kind, *parts)
    values.py    fractions exactly, the rest to ten digits
    compare.py   values as numbers, expressions at fixed points, sets by their members

No regular expressions, no computer algebra, no evaluation of code; sizes are bounded before anything is
computed, and no string raises. The folder stands alone and can be copied out.
"""

import functools
from collections.abc import Callable

from .compare import Check
from .find import MAX_ANSWER, extract_answer
from .grammar import Tree, parse

__all__ = ["extract_answer", "is_correct", "reference_problem"]


def is_correct(response: str, answer: str) -> bool:
    """Does the response give this answer?

    Args:
        response: any text; its answer is found by `extract_answer`.
        answer: the reference, which goes through the same reader.
    Returns:
        True if the two are the same mathematics, False on any doubt. Never raises. Linear in the length of
        the response; what is read and computed after that is bounded by constants.
    """
    found = extract_answer(response)
    return found is not None and isinstance(answer, str) and judged(found, extract_answer(answer) or answer)


def reference_problem(answer: str) -> str | None:
    """What is wrong with a reference answer, for a loader to report with its line; None if nothing is."""
    try:
        text = extract_answer(answer) or answer
        return None if read(text) and judged(text, text) else "is undefined, or an untrue claim"
    except (ValueError, TypeError, ArithmeticError, RecursionError) as problem:
        return f"cannot be read: {problem}"


def judged(found: str, wanted: str) -> bool:
    try:
        return Check().same(read(found), read(wanted))
    except (ValueError, LookupError, OverflowError, RecursionError):  # a KeyError: what has no value
        return written(found) == written(wanted)
    except ArithmeticError:  # 1/0, 5=6
        return False


def written(text: str) -> str:
    """A text without dollars, and without spaces but for those between letters or digits."""
    text = " ".join(text[: 2 * MAX_ANSWER].replace("$", "").split())
    between = lambda k: text[k - 1 : k].isalnum() and text[k + 1 : k + 2].isalnum()
    return "".join(c for k, c in enumerate(text) if c != " " or between(k))


read: Callable[[str], Tree] = functools.lru_cache(maxsize=128)(parse)  # a reference once for its responses
