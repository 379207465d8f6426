"""Where a response gives its answer: its text, not yet interpreted. Linear in the response's length.
Read on in words.py."""

from itertools import accumulate

MAX_ANSWER = 4096  # characters that are read as an answer; anything longer counts as no answer
MAX_BOXES = 64  # the last so many boxes of a response are looked at
SMALL, CAPITALS, DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
LETTERS, LOWER = SMALL + CAPITALS, str.maketrans(CAPITALS, SMALL)  # str.lower can change a length


def extract_answer(response: str) -> str | None:
    r"""The text of the answer that a response gives, or None.

    Authority falls in this order: the last `\boxed{}`, but for "Answer: D" behind it; `#### 18`; `<answer>`;
    what "answer is" or "answer:" announces; a last sentence that begins with "Therefore"; a short bare reply.
    Nothing before `</think>` or after `<think>` is an answer.

    Args:
        response: any text at all.
    Returns:
        LaTeX or plain text of 1 to MAX_ANSWER characters, or None.
    """
    text = (response if isinstance(response, str) else "").rpartition("</think>")[2].partition("<think>")[0]
    found = next((found for find in (boxed, marked, announced) if (found := find(text)) is not None), "")
    found = found.strip(" \n*")
    found = found if found.endswith("..") else found.rstrip(" \n*.")  # 3.14... goes on
    return found if 0 < len(found) <= MAX_ANSWER else None


def boxed(text: str) -> str | None:
    r"""The last outermost box, with those that a comma or a conjunction joins to it. Without braces it holds
    a number or command; \boxed{} and \boxed before other words are prose. A box that is never closed is an
    answer that cannot be read, so that no earlier box wins."""
    text = text.replace("\\fbox", "\\boxed")
    answers, end = [], len(text.rsplit("\\boxed", MAX_BOXES)[0])
    while (start := text.find("\\boxed", end)) >= 0:
        at = run(text, start + len("\\boxed"), " \n\r\t")
        stop, word = closing(text, at), text[at : at + MAX_ANSWER].partition("$")[0].split(maxsplit=1)[:1]
        inside = text[at + 1 : stop - 1].strip() if stop else "".join(word)
        if inside and (stop or inside[0] in DIGITS + "-\\{"):
            answers = [*answers, inside] if joins(text[end:start]) else [inside]
        end = max(stop, at)
    if not answers:
        return None
    return announced(text[end:]) if "answer:" in text[end:].translate(LOWER) else ", ".join(answers)


def run(text: str, i: int, alphabet: str) -> int:
    """The end of the longest run of characters of the alphabet from i on, of MAX_ANSWER at most."""
    part = text[i : i + MAX_ANSWER]
    return i + len(part) - len(part.lstrip(alphabet))


def closing(text: str, start: int) -> int:
    """One past the brace that closes the one at `start`; 0 if there is none within MAX_ANSWER characters."""
    part = text[start : start + MAX_ANSWER + 2]
    for escaped in ("\\\\", "\\{", "\\}"):
        part = part.replace(escaped, "..")
    depths = accumulate((c == "{") - (c == "}") for c in part if part[0] == "{")
    return next((start + i for i, depth in enumerate(depths, 1) if depth == 0), 0)


def joins(gap: str) -> bool:
    """Does what stands between two boxes end in a comma, "and" or "or", in the same sentence?"""
    plain = "".join(" " if c in "\\$(){}[]" else c for c in gap[:80].replace("\\quad", " ")).rstrip()
    return len(gap) < 80 and ". " not in gap and plain.endswith((",", ";", " and", " or"))


def marked(text: str) -> str | None:
    """`#### 18`, but one with letters and lines below it is a heading; or the last `<answer>...</answer>`."""
    line, _, more = text.rpartition("####")[2].strip().partition("\n")
    if "####" in text and (not more or (line and not any(c.isalpha() for c in line))):
        return line
    return text.rpartition("<answer>")[2].partition("</answer>")[0] if "<answer>" in text else None


def announced(text: str) -> str | None:
    """The sentence after the last "answer is"; a last sentence with "Therefore"; a short reply."""
    tail = text[-2 * MAX_ANSWER :].strip()
    for marks in ("answer is", "answer:", "answer**"), ("therefore", "thus", "hence"):
        at = tail.translate(LOWER)
        start = max(at.rfind(mark) + len(mark) if mark in at else -1 for mark in marks)
        said = tail[start:].lstrip(" \n:*,")
        if start > 0 and (sentence(said) == said or "answer is" in marks):
            return sentence(said).removesuffix("!")  # 45! closes a sentence, $45!$ is a factorial
    return tail if len(text) <= 300 else None


def sentence(text: str) -> str:
    """Up to a full stop or line break, but not inside a displayed formula at the beginning."""
    start = max(text.find({"\\[": "\\]", "$$": "$$"}.get(text[:2], "\0"), 2), 0)
    ends = (". ", "\n", *(f"! {letter}" for letter in CAPITALS))
    return text[: min((at for end in ends if (at := text.find(end, start)) > 0), default=len(text))]
