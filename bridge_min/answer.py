r"""Does this response give that answer? The reward of reinforcement learning from verifiable rewards.

    is_correct(r"... so $x = \boxed{\tfrac{2}{4}}$.", "0.5")     True
    is_correct(r"\boxed{1 \text{ or } 2}", "2")                  False: two answers to one question

A false reject teaches a model that right is wrong; a false accept is what it will learn to exploit. So an
answer is read by a grammar and compared as mathematics, and doubt is a no. The file reads top to bottom:

    find        the last \boxed{}, ####, <answer>, "the answer is", or a short bare reply    extract_answer
    normalise   Unicode, LaTeX and plain text become one list of tokens                      tokens
    parse       recursive descent to a tree of tuples, (kind, *parts)                        Parser
    calculate   fractions; else decimals of 70 digits; for i and arcs complex floats         OPERATIONS
    compare     values exactly, expressions at fixed points, sets by their members           Check

No regular expressions, no computer algebra, no evaluation of code; sizes are bounded before anything is
computed, and no string raises. Read on at `is_correct` (the end), then the grammar in `Parser`.
"""

import cmath
import contextlib
import decimal
import functools
import itertools
import math
import operator
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

Tree = tuple  # ("num", Fraction(1, 2)), ("name", "x"), ("sum", tree, tree), ("[)", tree, tree), ("list", ...)
Number = Fraction | Decimal | complex

MAX_ANSWER = 4096  # characters that are read as an answer; what is longer is none
MAX_BOXES = 64  # the last so many boxes of a response are looked at
MAX_DEPTH = 60  # nested brackets and stacked operators
MAX_ITEMS = 64  # elements of one list, which are matched in any order
MAX_BITS = 1 << 15  # of an exact power; 2004! has 19,000
MAX_WORK = 1 << 20  # bits written during one comparison
CONTEXT = decimal.Context(prec=70, Emax=10**5, Emin=-(10**5))
CONTEXT.traps[decimal.Underflow] = True
CLOSE = {Decimal: Decimal("1e-50"), complex: 1e-10}  # relative difference of equal numbers
NOISE = {Decimal: Decimal("1e-60"), complex: 1e-13}  # a sum that cancels so far is zero
E = Decimal(1).exp(CONTEXT)
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803")
DIGITS, SMALL, CAPITALS = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LETTERS, LOWER = SMALL + CAPITALS, str.maketrans(CAPITALS, SMALL)  # str.lower can change a length


class Unreadable(ValueError):
    """Outside the grammar, or too large to compute: equal only to what is written the same."""


# --- Find -----------------------------------------------------------------------------------------------


def extract_answer(response: str) -> str | None:
    r"""The text of the answer that a response gives, or None.

    Authority falls in this order: the last `\boxed{}`; a last line `#### 18`; `<answer>`; what "answer is" or
    "answer:" announces; a last sentence that begins with "Therefore"; a short bare reply. Nothing before
    `</think>` or after `<think>` is an answer.

    Args:
        response: any text at all; the work is linear in its length.
    Returns:
        LaTeX or plain text of 1 to MAX_ANSWER characters, or None.
    """
    if not isinstance(response, str):
        return None
    text = response.rpartition("</think>")[2].partition("<think>")[0]
    found = next((found for find in (boxed, marked, announced) if (found := find(text)) is not None), "")
    found = found.strip(" \n*").rstrip(" \n*.")
    return found if 0 < len(found) <= MAX_ANSWER else None


def boxed(text: str) -> str | None:
    """The last outermost box, with those that a comma or a conjunction joins to it: one list in boxes."""
    starts, end, answers = [len(text)], 0, []
    while len(starts) <= MAX_BOXES and starts[-1] >= 0:
        starts.append(max(text.rfind(box, 0, starts[-1]) for box in ("\\boxed", "\\fbox")))
    for start in starts[:0:-1]:
        if start >= end:  # not inside the box before
            at = run(text, run(text, start + 1, LETTERS), " \n")
            stop = closing(text, at)
            content = text[at + 1 : stop - 1] if stop else ""  # never closed: nothing
            if text[at : at + 1] != "{":  # \boxed 7
                content = "".join(text[at : at + MAX_ANSWER].partition("$")[0].split()[:1])
            answers = [*answers, content] if answers and joins(text[end:start]) else [content]
            end = max(stop, at)
    return ", ".join(answers) if answers else None


def run(text: str, i: int, alphabet: str) -> int:
    """The end of the longest run of characters of the alphabet from i on."""
    while i < len(text) and text[i] in alphabet:
        i += 1
    return i


def closing(text: str, start: int) -> int:
    """One past the brace that closes the one at `start`; 0 if there is none within MAX_ANSWER characters."""
    depth, i = 0, start
    while i < min(len(text), start + MAX_ANSWER + 2) and (depth or text[i] == "{"):
        depth += (text[i] == "{") - (text[i] == "}")
        i += 2 if text[i] == "\\" else 1
        if depth == 0:
            return i
    return 0


def joins(gap: str) -> bool:
    """Does what stands between two boxes end in a comma, "and" or "or", in the same sentence?"""
    plain = "".join(" " if c in "\\$(){}[]" else c for c in gap[:80].replace("\\quad", " ")).rstrip()
    return len(gap) < 80 and ". " not in gap and plain.endswith((",", ";", " and", " or"))


def marked(text: str) -> str | None:
    """`#### 18` on the last line (elsewhere it is a heading), or the last `<answer>...</answer>`."""
    for mark, end in ("####", "\n"), ("<answer>", "</answer>"):
        _, found, tail = text.rpartition(mark)
        if found and (end != "\n" or end not in tail.strip()):
            return tail.partition(end)[0]
    return None


def announced(text: str) -> str | None:
    """The sentence after the last "answer is"; a last sentence with "Therefore"; a short reply."""
    tail = text[-2 * MAX_ANSWER :].strip()
    lower = tail.translate(LOWER)
    for marks in ("answer is", "answer:", "answer**"), ("therefore", "thus", "hence"):
        start = max(at + len(mark) if (at := lower.rfind(mark)) >= 0 else -1 for mark in marks)
        said = tail[start:].lstrip(" \n:*,")
        if start > 0 and (sentence(said) == said or "answer is" in marks):
            return sentence(said)
    return tail if len(text) <= 300 else None


def sentence(text: str) -> str:
    """Up to a full stop or line break, but not inside a displayed formula at the beginning."""
    start = max(text.find({"\\[": "\\]", "$$": "$$"}.get(text[:2], "\0"), 2), 0)
    return text[: min((at for end in (". ", "\n") if (at := text.find(end, start)) > 0), default=len(text))]


# --- Normalise ------------------------------------------------------------------------------------------


def table(text: str) -> dict[str, str]:
    """ "a = x y; b = z" -> {"x": "a", "y": "a", "z": "b"}."""
    rows = (row.split() for row in text.split(";"))
    return {name: row[0] for row in rows for name in row[1:]}


REPLACE = table(  # \5 marks thousands, ␣ is a space
    "{,} {,␣}; \5 {,} ,\\! \\!,; \5 \5␣; ␣ ~ \\,; ° ^{\\circ} ^\\circ; ' ^{\\prime}; ℝ \\mathbb{R};"
    "≤ <=; ≥ >=; ≠ !=; ␣ **␣; ^ **; = ==; \\text{am} a.m. a.m; \\text{pm} p.m. p.m; ␣ np."
)
REPLACE = {old.replace("␣", " "): new.replace("␣", " ") for old, new in REPLACE.items()}
SAME = table(  # what is read as the sign at the beginning of each row
    "- − – ‐; * × · ⋅ ∙ cdot times ast; / ÷ ⁄ ∕ div; ≤ ⩽ le leq leqslant; ≥ ⩾ ge geq geqslant; ≠ ne neq;"
    "< lt; > gt; = equiv; ≈ approx simeq; : colon; % %; ' ′ ’ prime; | vert lvert rvert mid;"
    "⌊ lfloor; ⌋ rfloor; ⌈ lceil; ⌉ rceil; ⟨ langle; ⟩ rangle; [ lbrack; ] rbrack; \\{ { lbrace;"
    "\\} } rbrace; ° º degree circ;"
    '∪ cup; ∩ cap; ∖ setminus backslash; ∈ in; ∅ emptyset varnothing; ± pm; ∞ infty; "dollar $; "euro €;'
    '"pound £; frac dfrac tfrac cfrac frac; binom dbinom tbinom binom; sqrt sqrt; λ lambda; Λ Lambda;'
    'ε varepsilon; φ varphi; ℏ hbar; ℓ ell; "max max; "min min; ∠ angle; △ triangle; ℝ R'
)
FUNCTIONS = str.split("sin cos tan cot sec csc arcsin arccos arctan sinh cosh exp ln log lg")
OPERATORS = str.split(
    "sum prod int iint oint lim mod pmod bmod choose substack overset underset"
)  # unreadable
TEXT = str.split("text textbf textit textrm textnormal textsf mbox hbox mathrm operatorname mathsf")
MATRICES = str.split("matrix pmatrix bmatrix array")
STYLE = str.split(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr displaystyle textstyle limits boxed fbox mathbf bm vec"
    " hat bar overline boldsymbol mathcal mathit quad qquad Rightarrow ( ) [ ] , ; : ! >"
)
SAME |= {name: name for name in FUNCTIONS} | dict.fromkeys([*STYLE, " ", "\n"], "") | {"\\": "\\"}
SPELT = table('√ sqrt; π pi; ∞ inf infinity; "and and; "or or; = is are equals; % percent')
SPELT |= {name: name for name in FUNCTIONS}
SIGNS = {*"+()[]{},;!^_√\\", *SAME.values()}
UPPER, UNDER = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ", "₀₁₂₃₄₅₆₇₈₉"
SHORT = str.split("it the of for per has was cm mm km kg ft mph pm")  # words that are no products
UNITS = table(
    "mm mm millimeter; cm cm centimeter; m m meter; km km kilometer kmh; in in inch inche; ft ft foot feet;"
    "mi mi mile mph; g g gram; kg kg kilogram; lb lb pound; l l liter; s s sec second; min min minute;"
    "h h hr hour; day day; week week; yr yr year; dollar dollar; cent cent; euro euro; am am; pm pm;"
    "degree degree deg"
)
SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "dozen": 12}
DOUBT = str.split(
    "not no never neither either nor than least most more less over under between minus negative half twice"
    " double squared cubed root reciprocal inverse opposite except unless maybe wrong"
)


def tokens(text: str) -> list[str | Fraction]:
    r"""Numbers, names ("x", "π"), words (with a quote before: '"cm'), functions ("sin") and signs.

    Linear in the length, which is at most MAX_ANSWER. Styling is dropped, what is unknown is unreadable.
    """
    if len(text) > MAX_ANSWER:
        raise Unreadable("too long")
    for old, new in REPLACE.items():
        text = text.replace(old, new)
    text = text if "\\begin" in text else text.replace("\\\\", "\\")  # without rows, \\pi was escaped twice
    out: list[Any] = [""]
    i = inside = matrices = quoted = 0  # open brackets; open matrices; where \text{} ends
    ends = set()  # the braces that close a \text{}
    while i < len(text):
        start, c, last = i, text[i], out[-1]
        i += 1
        if c in DIGITS or (c == "." and run(text, i, DIGITS) > i):
            c, i = numeral(text, start, inside > 0)
        elif c in LETTERS:
            i = run(text, i, LETTERS)
            *names, c = letters(text, start, i, out, start < quoted)
            out += names
        elif c == "\\":
            i = max(run(text, i, LETTERS), i + 1)
            name, brace = text[start + 1 : i], run(text, i, " ")
            if name in (*TEXT, "begin", "end"):
                stop = closing(text, brace)
                content, c = text[brace + 1 : max(stop - 1, 0)].strip(), ""
                if name in TEXT and stop and content not in (*FUNCTIONS, "e", "i", "d"):
                    i, quoted = brace + 1, max(quoted, stop)
                    ends.add(stop - 1)
                elif name not in TEXT:  # alignment is styling
                    i = max(i, stop, closing(text, stop) if content == "array" else 0)
                    matrices += content in MATRICES
                    c = name if content in MATRICES else ""
            else:
                c, i = symbol(name), i + (name in ("left", "right") and text[i : i + 1] == ".")
        elif c in UPPER + UNDER:
            i = run(text, i, UPPER if c in UPPER else UNDER)
            out += ["^" if c in UPPER else "_", "{", *tokens(unicodedata.normalize("NFKC", text[start:i]))]
            c = "}"
        elif not c.isascii() and "⁄" in (half := unicodedata.normalize("NFKC", c)):
            out += ["frac", *map(Fraction, half.split("⁄"))]
            c = ""
        elif (
            c in ' \n\t\r$"`'
            or start in ends
            or (c == "&" and not matrices)
            or (c == "." and (str(last)[:1] == '"' or not text[i:].strip(" .$}*")))
        ):
            c = ""
        elif c not in SIGNS and c != "&":
            c = symbol(c)
        inside += (c in ("(", "[", "\\{")) - (c in (")", "]", "\\}"))
        out += [c] if c != "" else []
    return out[1:]


def symbol(name: str) -> str:
    """The token of a sign or command."""
    if name in SAME or name in SIGNS or unicodedata.name(name[0], "").startswith("GREEK"):
        return SAME.get(name, name)
    try:
        return unicodedata.lookup(f"GREEK {'SMALL' if name[0] in SMALL else 'CAPITAL'} LETTER {name}")
    except KeyError:
        if name in OPERATORS or len(name) == 1:
            raise Unreadable(name) from None
        return "\\" + name  # \odot is a name like others


def letters(text: str, start: int, end: int, before: list[Any], quoted: bool) -> list[str]:
    """A run of letters is a known name, a word, or a product of one-letter names."""
    word, after, last = text[start:end], text[end : end + 9].lstrip(), before[-1]
    if word in SPELT:
        return [SPELT[word]]
    if word == "x" and isinstance(last, Fraction) and after[:1] in (*DIGITS,):
        return ["*"]
    if word == "U" and last in (")", "]"):
        return ["∪"]
    lower = word.translate(LOWER)
    prose = str(last)[:1] == '"' or (text[end : end + 1] == " " and run(after, 0, LETTERS) > 3)
    ratio = last == "/" and str(before[-2])[:1] == '"'  # km/h
    known = len(word) > 3 or lower in SHORT or (len(word) == 3 and word.istitle())
    if not (quoted or ratio or known or (prose and len(word) > 1)):
        return [*word]
    if text[end : end + 1] in (*DIGITS,):
        raise Unreadable(word)  # Room2
    return ['"' + (lower if len(word) > 1 else word)]


def numeral(text: str, i: int, inside: bool) -> tuple[Fraction, int]:
    r"""The number at i, exactly, and its end.

    Groups of three digits are one number, 27,54,108 is a list. In brackets a comma separates, but not `{,}`.
    """
    end = run(text, i, DIGITS)
    digits, part, cycle, exponent = text[i:end], "", "", "0"
    for mark in "\5, " if 0 < len(digits) < 4 and digits[0] != "0" else "":
        groups, k, stop = [], end, end
        while text.startswith(mark, k) and len(groups) < 20 and (stop := run(text, k + 1, DIGITS)) == k + 4:
            groups, k = [*groups, text[k + 1 : stop]], stop
        if groups and stop <= k + (text[k : k + 1] == mark) and not (mark == "," and inside):
            digits, end = digits + "".join(groups), k
            break
    if text[end : end + 1] == ".":
        start, end = end + 1, run(text, end + 1, DIGITS)
        part, bar = text[start:end], text.find("{", end) + 1
        if text[end:bar] in ("\\overline{", "\\bar{") and (stop := run(text, bar, DIGITS)) > bar:
            cycle, end = text[bar:stop], stop + 1
    first = end + 1 + (text[end + 1 : end + 2] in ("+", "-"))
    stop = run(text, first, DIGITS)
    if text[end : end + 1] in ("e", "E") and stop > first and text[stop : stop + 1] not in (*LETTERS, "^"):
        exponent, end = text[end + 1 : stop][:7], stop
    value = Fraction(int(digits + part or "0"), 10 ** len(part))
    if cycle:
        value += Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(part))
    return value * power(Fraction(10), Fraction(exponent)) if exponent != "0" else value, end


# --- Parse ----------------------------------------------------------------------------------------------

RELATIONS: dict[str, Callable[[Any, Any], bool]] = {"<": operator.lt, "≤": operator.le, ">": operator.gt}
RELATIONS |= {"≥": operator.ge, "≠": operator.ne, "=": operator.eq}
REGIONS: dict[str, Callable[[bool, bool], bool]] = {"∪": operator.or_, "∩": operator.and_, "∖": operator.gt}
STRENGTH = dict.fromkeys([*RELATIONS, "≈", "∈"], 1) | dict.fromkeys(REGIONS, 2) | {":": 3, "+": 4, "-": 4}
STRENGTH |= {"±": 4, "*": 5, "/": 5, "^": 8} | dict.fromkeys("!%°_'", 9)
SEPARATORS = (",", ";", "\\", '"and', '"or')
ENDS = {*SEPARATORS, *")]}|&⌋⌉⟩", "", "\\}", "end"}
BRACKETS = {"(": ")]", "[": ")]", "\\{": ("\\}",), "{": "}", "⟨": "⟩", "|": "|", "⌊": "⌋", "⌈": "⌉"}
ENCLOSED = {"|": "abs", "⌊": "floor", "⌈": "ceil"}
ONE, MINUS, TWO = (("num", Fraction(n)) for n in (1, -1, 2))
SETS = {"∅": ("{}",), "ℝ": ("()", ("prod", MINUS, ("name", "∞")), ("name", "∞"))}
DEGREE, ANGLE = ("name", '"degree'), ("div", ("name", "π"), ("num", Fraction(180)))


class Parser:
    """Recursive descent over the tokens; operators bind by their STRENGTH.  The grammar of answers:

    items      = expression {("," | ";" | "and" | "or") expression}    in brackets a tuple, interval or set
    expression = prefix {operator expression | expression | "!" | "%" | "°" | "'" | "_" group}
    operator   = "=" | "<" | "∈" | ... | "∪" | "∩" | "∖" | ":" | "+" | "-" | "±" | "*" | "/" | "^"
    prefix     = ("-" | "+" | "±") expression | number [fraction] | name | word | "frac" argument argument
               | "sqrt" ["[" expression "]"] argument | function expression | "(" items ")" | matrix
    """

    def __init__(self, toks: list[str | Fraction]) -> None:
        self.toks, self.i, self.depth, self.bars = toks, 0, 0, 0

    def peek(self, ahead: int = 0) -> Any:
        return self.toks[self.i + ahead] if self.i + ahead < len(self.toks) else ""

    def take(self, *wanted: str) -> Any:
        """The next token if it is one of these (or any, if none is named), else ""."""
        token = self.peek()
        if wanted and token not in wanted:
            return ""
        self.i += 1
        return token

    def fail(self) -> Any:
        raise Unreadable(f"unexpected {self.peek() or 'end'}")

    def answer(self) -> Tree:
        while self.toks and self.toks[-1] in (",", ";", ":", "\\"):
            self.toks.pop()
        while self.take("=", "≈"):
            pass
        kind, *items = self.items()
        if self.i < len(self.toks):
            self.fail()
        return items[0] if len(items) == 1 else (kind, *items)

    def items(self) -> Tree:
        """Elements up to a closing bracket or the end: a "list", or after an "or" alternatives."""
        kind, items = "list", [self.expression()]
        while joint := self.take(*SEPARATORS):
            joint = self.take('"and', '"or') or joint
            kind = "or" if joint == '"or' else kind
            items.append(self.expression())
            if len(items) > MAX_ITEMS:
                raise Unreadable("too many elements")
        return (kind, *items)

    def expression(self, level: int = 0, argument: bool = False) -> Tree:
        """What binds more strongly than `level`, and so does a product in an argument like that of sin 2x."""
        depth = self.depth
        self.descend()
        left = self.prefix(level)
        while True:
            token = self.peek()
            closed = token in ENDS and (token != "|" or self.bars > 0)
            closed = closed or (argument and (token == "(" or token in FUNCTIONS))
            strength = 0 if closed else STRENGTH.get(token, 5 + argument)
            if strength <= level:
                self.depth = depth
                return left
            self.i += token in STRENGTH and token != "±"
            if isinstance(token, Fraction) and self.toks[self.i - 1] != ")" and not wordy(left):
                raise Unreadable("two numbers side by side")
            if strength == 9:
                self.descend()
                left = self.postfix(left, token)
            else:
                right = self.expression(strength - (token == "^"))
                before, left = left, join(left, "+" if token == "±" else token, right)
                if len(left) > 1 and left[1] is before:  # a/b*c/d is not flat
                    self.descend()

    def descend(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deep")

    def postfix(self, left: Tree, sign: str) -> Tree:
        below = self.group() if sign == "_" else ""
        if sign in "_'" and left[0] == "name":
            return ("name", left[1] + sign + below)
        if sign == "_" and left[0] == "num":
            return left if below == "10" else (f"base {below}", left)
        if sign == "°":
            return ("prod", left, DEGREE)
        return ("factorial" if sign == "!" else "percent" if sign == "%" else self.fail(), left)

    def group(self) -> str:
        """The text of the next token, or of all up to the brace that closes it."""
        start, depth = self.i, 0
        while (token := self.take()) != "":
            depth += (token == "{") - (token == "}")
            if depth <= 0:
                break
        return "".join(map(str, self.toks[start : self.i])).strip("{}")

    def prefix(self, level: int = 9) -> Tree:
        self.descend()
        at, token = self.i, self.take()
        if token in ("-", "+", "±"):  # ±3 is the name ±3, for +1 and -1
            sign = {"-": MINUS, "+": ONE, "±": ("name", f"±{at}")}[token]
            tree = spread("prod", [sign, self.expression(max(level, 4))])
        elif isinstance(token, Fraction):
            tree = self.number(("num", token))
        elif token in BRACKETS:
            tree = self.bracket(token)
        elif token in ("frac", "binom"):
            tree = ("div" if token == "frac" else "binom", self.argument(), self.argument())
        elif token in ("√", "sqrt"):
            index = self.bracket(self.take()) if self.peek() == "[" else TWO
            tree = ("pow", self.prefix() if token == "√" else self.argument(), ("div", ONE, index))
        elif token == "begin":
            tree = self.matrix()
        elif token in FUNCTIONS:
            tree = self.function(token)
        elif token in ENDS or token in STRENGTH or token.strip('"') in DOUBT:
            raise Unreadable(f"unexpected {token or 'end'}")
        else:  # f(2) is a name; so is f(x) before "="
            applied = (self.peek(), self.peek(2)) == ("(", ")")
            applied &= isinstance(self.peek(1), Fraction) or self.peek(3) == "="
            self.i += 3 * applied
            name = f"{token}({self.toks[self.i - 2]})" if applied else token
            tree = SETS.get(token, ("name", name))
        self.depth -= 1
        return tree

    def number(self, whole: Tree) -> Tree:
        """A number; an integer before a proper fraction makes a mixed number."""
        plain = isinstance(self.peek(), Fraction) and self.peek(1) == "/"
        if whole[1].denominator > 1 or not (plain or self.peek() == "frac"):
            return whole
        part = ("div", ("num", self.take()), self.take() and self.prefix()) if plain else self.prefix()
        if part[1][0] == part[2][0] == "num" and 0 < part[1][1] < part[2][1]:
            return ("num", whole[1] + part[1][1] / part[2][1])
        return self.fail() if plain else ("prod", whole, part)

    def argument(self) -> Tree:
        r"""What \frac, \binom and \sqrt take: a group or one sign, so that \frac12 is a half."""
        if not isinstance(self.peek(), Fraction):
            return self.prefix()
        first, *rest = str(self.peek())
        self.toks[self.i : self.i + 1] = [Fraction("".join(rest))] if rest else []
        return ("num", Fraction(first))

    def bracket(self, opening: str) -> Tree:
        outside, self.bars = self.bars, int(opening == "|")
        if opening == "\\{" and self.take("\\}"):
            return ("{}",)
        if opening == "\\{" and self.peek(1) in ("|", ":") and str(self.peek()) in LETTERS:  # {x | x > 2}
            self.i += 2
        _, *items = self.items()
        kind = opening + (self.take(*BRACKETS[opening]) or self.fail())
        self.bars = outside
        if len(items) == 1 and opening in ENCLOSED:
            return (ENCLOSED[opening], items[0])
        if len(items) == 1 and (kind in ("()", "[]", "{}") or items[0][0] == "chain"):
            return items[0]
        return ("{}" if "{" in opening else kind if kind in INTERVALS else "()", *items)

    def matrix(self) -> Tree:
        """A tuple of rows, which are tuples; a column is the tuple of its entries."""
        rows = [[self.expression()]]
        while sign := self.take("&", "\\"):
            if sign == "&":
                rows[-1].append(self.expression())
            elif self.peek() != "end":
                rows.append([self.expression()])
        if not self.take("end"):
            self.fail()
        column = len(rows) > 1 and {*map(len, rows)} == {1}
        return ("()", *(row[0] if column else ("()", *row) for row in rows))

    def function(self, name: str) -> Tree:
        r"""\sin^2 2x, \log_2 n. Without brackets the argument is a product, up to "(" or another function."""
        scripts = {sign: self.prefix(8) for _ in "^_" if (sign := self.take("^", "_"))}
        if "_" in scripts and name != "log":
            self.fail()
        if scripts.get("^") == ("prod", MINUS, ONE) and "arc" + name in FUNCTIONS:
            name = "arc" + name
            del scripts["^"]
        argument = self.prefix() if self.peek() in BRACKETS else self.expression(5, True)
        tree = (name, put(argument, {DEGREE: ANGLE}.get), *([scripts["_"]] if "_" in scripts else []))
        return ("pow", tree, scripts["^"]) if "^" in scripts else tree


def join(left: Tree, op: Any, right: Tree) -> Tree:
    """A tree from an operator and its sides; chains, sums and products are flat."""
    if len(left) > 4 * MAX_ITEMS:
        raise Unreadable("too many terms")
    if op == ":" and wordy(left):  # the answer: 5
        op = "="
    if STRENGTH.get(op) in (1, 2):
        kind = "chain" if STRENGTH[op] == 1 else "region"
        ops, *parts = left[1:] if left[0] == kind else ((), left)
        return (kind, (*ops, op), *parts, right)
    if op == "/" and left[0] == "div":
        return (*left, right)
    if op in ("^", "/"):
        return ("pow" if op == "^" else "div", left, right)
    if op not in STRENGTH and wordy(left) and right[0] not in EXPRESSIONS:  # the set {1, 2}
        return right
    if op == "-":
        right = spread("prod", [MINUS, right])
    kind = {"+": "sum", "-": "sum", ":": "ratio"}.get(op, "prod")
    parts = [*(left[1:] if left[0] == kind else [left]), right]
    if kind == "prod" and op != "*" and wordy(parts[-2]) and not wordy(left) and not wordy(right):
        raise Unreadable("words between numbers")
    return spread(kind, parts)


def spread(kind: str, parts: list[Tree]) -> Tree:
    """A sum or product; of vectors and matrices entry by entry, as far as no two of them are multiplied."""
    vectors = [part for part in parts if part[0] == "()"]
    if not vectors or kind == "ratio":
        return (kind, *parts)
    if len(vectors) != (len(parts) if kind == "sum" else 1) or len({*map(len, vectors)}) > 1:
        raise Unreadable("vectors that do not fit")
    others = [part for part in parts if part[0] != "()"]
    return ("()", *(spread(kind, [*others, *cell]) for cell in zip(*(v[1:] for v in vectors), strict=True)))


def put(tree: Tree, change: Callable[[Tree], Tree | None]) -> Tree:
    """The tree with `change(node)` for each node where it is not None."""
    return change(tree) or tuple(put(part, change) if isinstance(part, tuple) else part for part in tree)


def nodes(*trees: Tree) -> Iterator[Tree]:
    for tree in trees:
        yield tree
        yield from nodes(*(part for part in tree if isinstance(part, tuple)))


def wordy(tree: Tree) -> bool:
    """Words alone, as a unit or a name: "east", cm^2, km/h."""
    if tree[0] == "name":
        return tree[1][0] == '"'
    return wordy(tree[1]) if tree[0] == "pow" else tree[0] in ("prod", "div") and all(map(wordy, tree[1:]))


# --- Calculate ------------------------------------------------------------------------------------------


def alike(*numbers: Number) -> tuple[Any, ...]:
    """The numbers as the simplest kind that holds all: fractions, decimals of 70 digits, complex floats."""
    kinds = {*map(type, numbers)}
    if len(kinds) == 1:
        return numbers
    if complex not in kinds:
        return tuple(Decimal(x.numerator) / x.denominator if isinstance(x, Fraction) else x for x in numbers)
    return tuple(map(floating, numbers))


def floating(x: Number) -> complex:
    value = complex(x)
    if x and not 1e-290 < abs(value) < 1e290:
        raise OverflowError("outside the range of a float")
    return value


def add(a: Number, b: Number) -> Number:
    """a + b, or 0 where the two cancel as far as their rounding."""
    a, b = alike(a, b)
    total = a + b
    exact = isinstance(total, Fraction) or abs(total) >= NOISE[type(total)] * max(abs(a), abs(b))
    return total if exact else Fraction(0)


def multiply(a: Number, b: Number) -> Number:
    return operator.mul(*alike(a, b))


def divide(a: Number, b: Number) -> Number:
    return operator.truediv(*alike(a, b))


def power(a: Number, b: Number) -> Number:
    """a to the b: exact if it can be, real for an odd root of a negative number, else the principal value."""
    if a == 0:
        return Fraction(0) if isinstance(b, Fraction) and b > 0 else divide(a, Fraction(0))
    if isinstance(b, Fraction) and b.denominator == 1:
        if (
            isinstance(a, Fraction)
            and abs(b) * (max(abs(a.numerator), a.denominator).bit_length() - 1) > MAX_BITS
        ):
            raise OverflowError("too large")
        return a ** int(b)
    if isinstance(a, Fraction) and isinstance(b, Fraction) and a < 0 and b.denominator % 2:
        return multiply(Fraction((-1) ** b.numerator), power(-a, b))
    a, b, _ = alike(a, b, PI)
    return a**b if isinstance(a, complex) or a > 0 else floating(a) ** floating(b)


def log(a: Number, base: Number = E) -> Number:
    a, base, _ = alike(a, base, PI)
    if isinstance(a, complex) or a < 0:
        return cmath.log(floating(a)) / cmath.log(floating(base))
    return a.ln() / base.ln() if a else divide(ONE[1], Fraction(0))


def sin(a: Number) -> Number:
    """By its series; what is zero up to its rounding is zero."""
    if isinstance(a, complex):
        return cmath.sin(a)
    if abs(a) > 10**9:
        raise OverflowError("an angle without digits")
    total = term = alike(a, PI)[0] % (2 * PI)
    square, n = total * total, 1
    while abs(term) > NOISE[Decimal] / 1000:
        n += 2
        term *= -square / (n * (n - 1))
        total += term
    return total if abs(total) > NOISE[Decimal] else Fraction(0)


def cos(a: Number) -> Number:
    return sin(add(a, PI / 2))


def over(f: Callable[..., Number], g: Callable[..., Number]) -> Callable[[Number], Number]:
    return lambda a: divide(f(a), g(a))


def arc(f: Callable[[complex], complex]) -> Callable[[Number], Number]:
    """An inverse function, in machine precision."""
    return lambda a: f(floating(a))


def natural(a: Number) -> int:
    if not isinstance(a, Fraction) or a.denominator > 1 or a < 0:
        raise ArithmeticError("not a natural number")
    if a > 3000:
        raise OverflowError("too large")
    return int(a)


def whole(a: Number, half: Fraction) -> Fraction:
    """The whole number next to a and a half, below or above."""
    if isinstance(a, complex) or abs(a) > 10**30:
        raise OverflowError("too large for its digits")
    near = Fraction(round(a))
    return near if add(a, -near) == 0 else Fraction(round(add(a, half)))


OPERATIONS: dict[str, Callable[..., Number]] = {
    "sum": add, "prod": multiply, "div": divide, "pow": power,
    "percent": lambda a: divide(a, Fraction(100)),
    "abs": lambda a: floating(abs(a)) if isinstance(a, complex) else abs(a),
    "floor": lambda a: whole(a, Fraction(-1, 2)), "ceil": lambda a: whole(a, Fraction(1, 2)),
    "factorial": lambda a: Fraction(math.factorial(natural(a))),
    "binom": lambda a, b: Fraction(math.comb(natural(a), natural(b))),
    "exp": lambda a: power(E, a), "ln": log, "log": log, "lg": lambda a: log(a, Fraction(10)),
    "sin": sin, "cos": cos, "tan": over(sin, cos), "cot": over(cos, sin),
    "sec": lambda a: divide(ONE[1], cos(a)), "csc": lambda a: divide(ONE[1], sin(a)),
    "sinh": lambda a: divide(add(power(E, a), -power(E, -a)), TWO[1]),
    "cosh": lambda a: divide(add(power(E, a), power(E, -a)), TWO[1]),
    "arcsin": arc(cmath.asin), "arccos": arc(cmath.acos), "arctan": arc(cmath.atan),
}  # fmt: skip
CONSTANTS: dict[str, Number] = {"π": PI, "e": E, "i": 1j, "∞": Decimal("Infinity")}
EXPRESSIONS = {"num", "name", *OPERATIONS}


# --- Compare --------------------------------------------------------------------------------------------

# Where an unknown is tried: fractions, positive and negative, large and small, so that domains show, and
# whole numbers, of which factorials have values. Expressions of an answer's size do not agree by chance.
TRIALS = [
    (1, 11),
    (1, 23),
    (Fraction(5, 7), 17),
    (Fraction(-3, 7), 13),
    (Fraction(1, 97), 89),
    (1, 7),
    (1, 31),
]
NUDGES = (Fraction(0), Fraction(1, 10**12), Fraction(-1, 10**12))
FAR = [sign * Fraction(10**k, 700) for k in range(12) for sign in (1, -1)]
INTERVALS = ("()", "[)", "(]", "[]")
GROUPS = ("list", "or", "{}")


def names(*trees: Tree) -> list[str]:
    return sorted({node[1] for node in nodes(*trees) if node[:1] == ("name",)})


def unknowns(*trees: Tree) -> list[str]:
    """Names that have no fixed value."""
    return [name for name in names(*trees) if name not in CONSTANTS and name[0] != '"']


def spelled(tree: Tree) -> str:
    """A product of names as one word: "east", "B", "ACF"; else ""."""
    if tree[0] == "name":
        return tree[1].strip('"')
    parts = [spelled(part) for part in tree[1:]] if tree[0] == "prod" else [""]
    return "".join(parts).translate(LOWER) if all(parts) else ""


def units(tree: Tree) -> set[str]:
    words = [name[1:] for name in names(tree) if name[0] == '"']
    return {UNITS.get(word, UNITS.get(word.removesuffix("s"), "")) for word in words} - {""}


def is_label(tree: Tree) -> bool:
    """Does a side of an equation only name a quantity: x, f(2), AB, NO/BO, dy/dx, (x, y), "the area"?"""
    kind, *parts = tree
    if kind == "name":
        return parts[0] not in CONSTANTS
    if kind == "prod" and all(part[0] == "name" for part in parts):
        symbols = [part[1] for part in parts if part[1][0] != '"']
        known = symbols[:1] == ["d"] or {"∠", "△"} & {*symbols}
        return len(symbols) < 2 or known or all(name[0] in CAPITALS for name in symbols)
    return kind in ("div", "ratio", "()", "list", "sin", "cos", "tan") and all(map(is_label, parts))


def quotient(tree: Tree) -> Tree:
    """2:3 as 2/3, but not 1:2:3, nor 1:20 and 5:00, which may be times."""
    pair = (
        tree[0] == "ratio"
        and len(tree) == 3
        and not any(node[0] == "num" and 10 <= (node[1] or 10) < 60 for node in nodes(tree[2]))
    )
    return ("div", *tree[1:]) if pair else tree


def close(a: Number, b: Number, rel_tol: float = 0.0) -> bool:
    a, b = alike(a, b)
    size, kind = max(abs(a), abs(b)), float if isinstance(a, complex) else type(a)
    if a == b or size == CONSTANTS["∞"]:
        return a == b
    return abs(a - b) <= max(CLOSE.get(type(a), 0), kind(rel_tol)) * size


def real(a: Number) -> Any:
    if isinstance(a, complex) and abs(a.imag) > 1e-12 * abs(a):
        raise ArithmeticError("not a real number")
    return Decimal(a.real) if isinstance(a, complex) else a


def elements(tree: Tree) -> list[Tree]:
    """The members of a list or set, or the one thing itself; each ± written out."""
    found = []
    for item in tree[1:] if tree[0] in GROUPS else [tree]:
        signs = [("name", name) for name in names(item) if name[0] == "±"]
        if len(signs) > 3:
            raise Unreadable("too many ±")
        for choice in itertools.product((ONE, MINUS), repeat=len(signs)):
            found.append(put(item, dict(zip(signs, choice, strict=True)).get))
    return found


def conditions(tree: Tree) -> Tree:
    """A set of reals as relations on x: [1, 2) is 1 ≤ x < 2, {3, 4} is x = 3 ∪ x = 4."""
    kind, *parts = tree
    if kind in INTERVALS and len(parts) == 2:
        ops = ("≤" if kind[0] == "[" else "<", "≤" if kind[1] == "]" else "<")
        return ("chain", ops, parts[0], ("name", "x"), parts[1])
    if kind in GROUPS[1:] and parts:
        return ("region", ("∪",) * (len(parts) - 1), *map(conditions, parts))
    if kind == "region":
        return (kind, parts[0], *map(conditions, parts[1:]))
    if kind in EXPRESSIONS:
        return ("chain", ("=",), ("name", "x"), tree)
    if kind != "chain" or not RELATIONS.keys() >= {*parts[0]}:
        raise Unreadable("no set of reals")
    return tree


def differences(sides: Sequence[Tree]) -> list[Tree]:
    return [("sum", a, ("prod", MINUS, b)) for a, b in itertools.pairwise(sides)]


def difference(relation: Tree) -> tuple[str, Tree]:
    """left < right as ("<", left - right), and left > right as ("<", right - left)."""
    op, *sides = relation[1][0], *relation[2:]
    return ("<≤"[op == "≥"], *differences(sides[::-1])) if op in ">≥" else (op, *differences(sides))


class Check:
    """One comparison: its tolerance, and the work it may still do."""

    def __init__(self, rel_tol: float = 0.0) -> None:
        self.rel_tol, self.work = rel_tol, MAX_WORK

    def spend(self, bits: int) -> None:
        self.work -= bits
        if self.work < 0:
            raise Unreadable("too much work")

    def same(self, a: Tree, b: Tree) -> bool:
        """Do two trees stand for the same answer?"""
        if a[0] == b[0] == "num":
            return close(a[1], b[1], self.rel_tol)
        self.spend(256)
        a, b = (quotient(self.settled(tree)) for tree in (a, b))
        kinds = {a[0], b[0]}
        if kinds == {"def"} and a[1] == b[1]:
            return self.same(a[2], b[2])
        if "def" in kinds and kinds <= {"def", "chain"}:
            return self.same_relation(*(("chain", ("=",), *t[1:]) if t[0] == "def" else t for t in (a, b)))
        if "def" in kinds:
            return self.same(*(tree[2] if tree[0] == "def" else tree for tree in (a, b)))
        if kinds == {"chain"}:
            return self.same_relation(a, b)
        if kinds & {"chain", "region"} or (len(kinds) == 2 and kinds <= {*INTERVALS, "{}"}):
            return not any(t[0] == "chain" and "=" in t[1] for t in (a, b)) and self.same_region(a, b)
        if kinds & {*GROUPS} or any(name[0] == "±" for name in names(a, b)):
            return self.same_elements(a, b)
        if wordy(a) or wordy(b):
            return spelled(a) == spelled(b) != ""
        if kinds <= EXPRESSIONS:
            named = units(a), units(b)  # may be left out, but not wrong
            return not (all(named) and named[0].isdisjoint(named[1])) and self.same_value(a, b)
        return a[0] == b[0] and len(a) == len(b) and all(map(self.same, a[1:], b[1:]))

    def settled(self, tree: Tree) -> Tree:
        """What an equation or membership gives: a value, or ("def", label, value); others stay as they are.

        An equation is a claim. It gives its last side if it is true (2+4 = 6) or a definition (x = 6). An
        untrue claim gives nothing, and 2x = 12 no value.
        """
        if tree[0] != "chain" or {"=", "≈", "∈"}.isdisjoint(tree[1]):
            return tree
        ops, *sides = tree[1:]
        if ops == ("∈",) and is_label(sides[0]):
            return sides[1]
        if len(ops) > 1 and ops[0] == "=" and wordy(sides[0]):  # the solution is x < 5
            return self.settled(("chain", ops[1:], *sides[1:]))
        if not {"=", "≈"} >= {*ops}:
            raise Unreadable("mixed relations")
        if len(sides) == 2 and is_label(sides[1]) and not wordy(sides[1]) and not is_label(sides[0]):
            sides.reverse()  # 5 = x, but not "5 is wrong"
        labels = len(list(itertools.takewhile(is_label, sides[:-1])))
        values, ops = sides[labels:], ops[labels:]
        for (a, b), op in zip(itertools.pairwise(values), ops, strict=True):
            if not (self if op == "=" else Check(0.01)).same(a, b):
                if len(sides) == 2 and unknowns(tree):
                    return tree
                raise ArithmeticError("an untrue claim")
        value = values[ops.index("≈") if "≈" in ops else -1]  # what was rounded
        return ("def", sides[0], value) if labels else value

    def same_elements(self, a: Tree, b: Tree) -> bool:
        """Lists and sets in any order; but x = 1, y = 2 is 1, 2 or (1, 2) in this order only."""
        xs, ys = ([self.settled(x) for x in elements(tree)] for tree in (a, b))
        named = [len({x[1] for x in items if x[0] == "def"}) == len(items) > 1 for items in (xs, ys)]
        if named[0] != named[1]:
            values, other = (xs, b) if named[0] else (ys, a)
            if other[0] not in ("()", *GROUPS):
                return False
            return self.same(("()", *(x[2] for x in values)), ("()", *other[1:]))
        if len(xs) != len(ys):
            return False
        for x in xs:
            match = next((k for k, y in enumerate(ys) if self.same(x, y)), None)
            if match is None:
                return False
            del ys[match]
        return True

    def same_relation(self, a: Tree, b: Tree) -> bool:
        """Two equations or inequalities: one a multiple of the other, or true for the same x."""
        if len(a) == len(b) == 4:
            (op, f), (sign, g) = map(difference, (a, b))
            pairs = list(self.trials(f, g))
            u, v = next((pair for pair in pairs if all(pair)), (Fraction(0), Fraction(0)))
            same = op == sign and u and (op in ("=", "≠") or real(divide(u, v)) > 0)
            if same and all(close(multiply(x, v), multiply(y, u)) for x, y in pairs):
                return True
        one = len(unknowns(a)) == 1 and "=" not in a[1] + b[1]
        return unknowns(a) == unknowns(b) and self.same_region(a, b) if one else a == b

    def same_region(self, a: Tree, b: Tree) -> bool:
        """Sets of reals: equal if they have the same members at, beside and between all their ends."""
        if len({tuple(unknowns(tree)) for tree in (a, b)} - {()}) > 1 or len(unknowns(a, b)) > 1:
            return False
        a, b = conditions(a), conditions(b)
        ends = sorted({*self.ends(a), *self.ends(b)}, key=lambda x: alike(x, PI)[0])
        if not ends:
            raise Unreadable("no end in sight")
        middles = [multiply(add(x, y), Fraction(1, 2)) for x, y in itertools.pairwise(ends)]
        points = [*(add(x, nudge) for x in ends for nudge in NUDGES), *middles, *FAR]
        return all(self.member(a, x) == self.member(b, x) for x in points)

    def ends(self, tree: Tree) -> Iterator[Number]:
        """Where a set of reals may begin or end: the roots of its relations, as far as these are linear."""
        if tree[0] == "region":
            for part in tree[2:]:
                yield from self.ends(part)
        for side in differences(tree[2:]) if tree[0] == "chain" else ():
            with contextlib.suppress(ArithmeticError):  # no root, or infinity
                start, one, two = (self.at(side, Fraction(x)) for x in (0, 1, 2))
                if add(add(start, two), -add(one, one)) == 0:
                    yield divide(start, add(start, -one))

    def at(self, tree: Tree, x: Number) -> Any:
        """The value where the one unknown is x, a real number."""
        return real(self.value(tree, dict.fromkeys(unknowns(tree), x)))

    def member(self, tree: Tree, x: Number) -> bool:
        if tree[0] == "region":
            inside, *others = (self.member(part, x) for part in tree[2:])
            for op, other in zip(tree[1], others, strict=True):
                inside = REGIONS[op](inside, other)
            return inside
        with contextlib.suppress(ArithmeticError):  # undefined there
            signs = [self.at(side, x) for side in differences(tree[2:])]
            return all(RELATIONS[op](sign, 0) for op, sign in zip(tree[1], signs, strict=True))
        return False

    def same_value(self, a: Tree, b: Tree) -> bool:
        """Are two expressions one function of their unknowns?  28% is 28 or 0.28."""
        plain = [put(tree, lambda node: node[1] if node[0] == "percent" else None) for tree in (a, b)]
        if (plain[0] != a) != (plain[1] != b) and self.same_value(*plain):
            return True
        if not unknowns(a, b):
            return close(self.value(a, {}), self.value(b, {}), self.rel_tol)
        return all(close(x, y) for x, y in self.trials(a, b))

    def trials(self, a: Tree, b: Tree) -> Iterator[tuple[Number, Number]]:
        """The values of two expressions at fixed points; two different ones where only one is defined."""
        whole, defined = {"factorial", "binom"} & {node[0] for node in nodes(a, b)}, 0
        for t, (scale, modulus) in enumerate(TRIALS):
            places = ((31 * k + 17 * t + 13 * k * t) % modulus + 2 for k in itertools.count())
            point = {
                name: Fraction(scale * place) for name, place in zip(unknowns(a, b), places, strict=False)
            }
            x, y = (None if whole and scale != 1 else self.tried(tree, point) for tree in (a, b))
            if (x is None) != (y is None):
                yield Fraction(0), Fraction(1)
            elif x is not None:
                defined += 1
                yield x, y
        if defined < 3:
            raise Unreadable("hardly anywhere defined")

    def tried(self, tree: Tree, point: dict[str, Number]) -> Number | None:
        """The value at a point; None if it is undefined, too large, or not real although no i is written."""
        with contextlib.suppress(ArithmeticError):
            value = self.value(tree, point)
            return value if "i" in names(tree) or real(value) is not None else None
        return None

    def value(self, tree: Tree, point: dict[str, Number]) -> Number:
        """The number an expression stands for at a point; too much work makes it unreadable."""
        kind, *parts = tree
        if kind == "num":
            return parts[0]
        if kind == "name" and parts[0][:1] == '"':
            return Fraction(SCALES.get(parts[0][1:], 1))
        if kind == "name" and (parts[0] in CONSTANTS or parts[0] in point):
            return CONSTANTS[parts[0]] if parts[0] in CONSTANTS else point[parts[0]]
        if kind not in OPERATIONS or (kind == "sum" and any(map(wordy, parts))):
            raise Unreadable(f"{kind} is no number")
        values = [self.value(part, point) for part in parts]
        flat = kind in ("sum", "prod", "div")
        result = functools.reduce(OPERATIONS[kind], values) if flat else OPERATIONS[kind](*values)
        exact = isinstance(result, Fraction)
        self.spend(result.numerator.bit_length() + result.denominator.bit_length() if exact else 512)
        return result


# --- The questions a caller asks ------------------------------------------------------------------------


def is_correct(response: str, answer: str, rel_tol: float = 0.0) -> bool:
    """Does the response give this answer?

    Args:
        response: any text; its answer is found by `extract_answer`.
        answer: the reference, which goes through the same reader.
        rel_tol: relative error allowed in numbers, for measured quantities; 0 compares exactly.
    Returns:
        True if the two are the same mathematics, False on any doubt. Never raises. Linear in the length of
        the response; what is read and computed after that is bounded by constants.
    """
    found = extract_answer(response)
    return (
        found is not None
        and isinstance(answer, str)
        and judged(found, extract_answer(answer) or answer, rel_tol)
    )


def reference_problem(answer: str) -> str | None:
    """What is wrong with a reference answer, for a loader to report with its line; None if nothing is."""
    if not isinstance(answer, str):
        return "is not a text"
    text = extract_answer(answer) or answer
    try:
        read(text)
    except (ValueError, ArithmeticError) as problem:
        return f"cannot be read: {problem}"
    return None if judged(text, text, 0.0) else "is not equal to itself: undefined, or an untrue claim"


@functools.lru_cache(maxsize=128)  # a reference is read once for its group of responses
def read(text: str) -> Tree:
    return Parser(tokens(text)).answer()


def judged(found: str, wanted: str, rel_tol: float) -> bool:
    with decimal.localcontext(CONTEXT):
        try:
            return Check(rel_tol).same(read(found), read(wanted))
        except (ValueError, OverflowError, decimal.Overflow):
            return written(found) == written(wanted)
        except ArithmeticError:  # 1/0, 5=6
            return False


def written(text: str) -> str:
    """An answer as it is written, less spaces and styling."""
    try:
        return " ".join(map(str, tokens(text)))
    except (ValueError, ArithmeticError):
        return "".join(text.split())
