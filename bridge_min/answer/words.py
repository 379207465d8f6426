r"""What letters mean: names and words, and what words beside mathematics change. Read on in tokens.py.

    about 7, the answer 7, option B      announced: the words go
    12 eggs, 7 square units, 5 each      counted: "#", a unit without a name
    15 cm^3, 60 miles per hour           units, which are compared: "#cm" "^" 3
    7 trillion, 7 tenths                 a factor
    square of 7, up to 7, 7 (rejected)   none of these, so the answer is not 7

A token is a Fraction, a name ("x", "π", "AB"), a function ("sin"), a sign, a unit, or a word with a quote
before it ('"east'). Words alone are one word: '"no solution'.
"""

from fractions import Fraction
from itertools import takewhile
from typing import Any

from .find import LETTERS, LOWER, run

Token = Any  # str | Fraction


class Unreadable(ValueError):
    """Outside the grammar, or too large to compute: equal only to what is written the same."""


def groups(text: str) -> dict[str, set[str]]:
    """ "a x y; b z" -> {"a": {"x", "y"}, "b": {"z"}}."""
    return {row.split()[0]: {*row.split()[1:]} for row in text.split(";")}


def table(text: str) -> dict[str, str]:
    """ "a x y; b z" -> {"x": "a", "y": "a", "z": "b"}."""
    return {name: row.split()[0] for row in text.split(";") for name in row.split()[1:]}


FUNCTIONS = str.split("sin cos tan cot sec csc arcsin arccos arctan exp ln log lg")
NUMBERS = str.split("zero one two three four five six seven eight nine ten")
SPELT: dict[str, Token] = {name: Fraction(n) for n, name in enumerate(NUMBERS)}
SPELT |= {name: name for name in FUNCTIONS} | table(
    '√ sqrt; π pi; ∞ inf infinity; "and and; "or or; = is are equals; % percent;'
    "≈ about approximately approx roughly around"
)
UNITS = table(  # a single letter is a unit by itself
    "mm mm millimeter; cm cm centimeter; m meter; km km kilometer; nm nm nanometer; in in inch inche; ft "
    "ft foot feet; yd yd yard; mi mi mile; mg mg milligram; g gm gram; kg kg kilogram; oz oz ounce; lb lb "
    "pound; ton ton tonne; ml ml milliliter; L l liter litre; gal gal gallon; ms ms millisecond; s sec "
    "second; min min minute; h hr hour; day day; week week; month month; yr yr year; cent cent; dollar "
    "dollar usd; euro euro; am am; pm pm; ° degree deg; rad rad radian; Hz hz hertz; J joule; cal "
    "calorie; N newton; W watt; V volt; A ampere; C coulomb; T tesla; K kelvin; Pa pa pascal; mol mole"
)
UNITS |= {f"{name}s": unit for name, unit in UNITS.items() if len(name) > 1}
SIGNS = {"per": ["/"], "mph": ["#mi", "/", "#h"], "squared": ["^", Fraction(2)], "cubed": ["^", Fraction(3)]}
POWERS = {"square": SIGNS["squared"], "sq": SIGNS["squared"], "cubic": SIGNS["cubed"]}
SCALES = table(
    "100 hundred; 1e3 thousand; 1e6 million; 1e9 billion; 1e12 trillion; 12 dozen; 1/2 half halve;"
    "1/3 third; 1/4 fourth quarter; 1/5 fifth; 1/6 sixth; 1/7 seventh; 1/8 eighth; 1/9 ninth; 1/10 tenth;"
    "1e-2 hundredth; 1e-3 thousandth; 1e-6 millionth; 1e-9 billionth"
)
SIGNS |= {name: ["*", Fraction(scale)] for name, scale in SCALES.items()}
ROLES = groups(  # what a word does beside mathematics
    "announces a an the so thus then hence therefore final answer result value solution total number amount"
    " count equal to of it there we get have obtain find that which gives only just exactly simply option"
    " choice set interval point pair ordered triple tuple vector matrix coordinates us;"
    "denies not no never neither either nor wrong incorrect rejected false invalid unless except but maybe;"
    "changes than least most perhaps always sometimes does doubt mistake negative"
    " missing fewer lakhs;"
    "follows of in on at for from with by each every all left remaining total altogether apart old long only;"
    "counted people men women children teeth mice geese dice sheep fish deer yen yuan won"
)
COUNTED, CHANGES, FOLLOWS = ROLES["counted"] | UNITS.keys(), ROLES["changes"], ROLES["follows"]
SHORT = {*str.split("mm cm km kg mph pm per of for no")}  # short, yet words and no products of letters
DENIALS = {f'"{word}' for word in ROLES["denies"]}
BORDERS = {*"<≤>≥≠=≈∈,;\\()[]&:|⌊⌋⌈⌉⟨⟩", "\\{", "\\}", '"and', '"or', "begin", "end", ""}


def letters(text: str, start: int, end: int, before: list[Token], quoted: int) -> list[str]:
    """A run of letters is a known name, a word, or one name, which in calculations is a product of letters. A
    script or prime belongs to the last letter."""
    word, after, last = text[start:end], text[end : end + 9].lstrip(), before[-1]
    lower = word.translate(LOWER)
    if lower in SPELT:
        return [SPELT[lower]]
    prose = str(last)[:1] == '"' or (text[end : end + 1] == " " and run(after, 0, LETTERS) > 1)
    counted = text[start - 1 : start] == " " and isinstance(last, Fraction) and lower in COUNTED
    compound = last == "/" and str(before[-2])[:1] == '"'  # km/h
    compound |= text[start - 1 : start] == " " and isinstance(last, Fraction) and after[:2] in ("/s", "/h")
    known = len(word) > 3 or word in SHORT or (len(word) > 1 and (prose or counted))
    if quoted or known or compound:
        return ['"' + (lower if len(word) > 1 else word)]
    split = len(word) > 1 and after.startswith((*"^_'!",))
    return [word[:-1], word[-1]] if split else [word]


def is_word(token: Token) -> bool:
    return isinstance(token, str) and token[:1] == '"' and token not in BORDERS


def resolved(tokens: list[Token]) -> list[Token]:
    """The tokens, with words left only where they stand alone. Raises Unreadable."""
    if DENIALS & {*tokens} and not all(is_word(token) or token in BORDERS for token in tokens):
        raise Unreadable("an answer that is denied")
    if "∀" in tokens:
        tokens = tokens[: tokens.index("∀")]  # for all x > 0: where an equation holds
    tokens, out, start = [*tokens, ""], [], 0
    for end, border in enumerate(tokens):
        if border not in BORDERS:
            continue
        part, start = tokens[start:end], end + 1
        words = [token[1:] for token in part if is_word(token)]
        alone = len(words) == len(part) > 0
        border = "=" if alone and border == ":" else border  # the answer: 5
        if alone and [*out[-1:], border] == [",", ""] and words[0] in FOLLOWS and not CHANGES & {*words}:
            part, words = [], []  # 45, in total
        out += segment(part, border) if words else part
        if border == "≈" and out[-1:] == ["("] and ")" in tokens[end:]:  # 3/56 (about 0.05)
            tokens[tokens.index(")", end)] = ""
        out = out[:-1] if border == "≈" and out[-1:] in (["("], ["="]) else out
        out += [border] if out or border not in ("=", "≈") else []
    return [token for token in out if token != ""]


def segment(part: list[Token], border: Token) -> list[Token]:
    """What stands between two borders, its words resolved."""
    first = len([*takewhile(lambda token: is_word(token) and token[1:] in ROLES["announces"], part)])
    part = part[first:] if first < len(part) or border in (*"([⟨|=", "\\{") else part
    if all(isinstance(token, str) and (token[0].isalpha() or token[0] in '"∠△') for token in part):
        joined = " ".join(token.lstrip('"') for token in part)  # words alone
        return ['"' + joined] if any(map(is_word, part)) else part
    out, power = [], []
    for i, token in enumerate(part):
        word = token[1:] if is_word(token) else ""
        rest = [other[1:] for other in takewhile(is_word, part[i : i + 40])]
        unit = UNITS.get(word, word if len(word) == 1 else "")
        if not word or out[-1:] == ["_"] or out[-2:] == ["_", "{"] or not (out or word[1:]):
            out.append(word or token)
        elif not (out or unit in ("dollar", "euro", "£", "cent")) or word in CHANGES:
            raise Unreadable("words that change a number")  # square of 7
        elif word in POWERS:
            power = POWERS[word]  # 7 square inches
        elif signs := SIGNS.get(word.removesuffix("s")):
            out += signs  # 7 trillion, 7 inches squared, 60 miles per hour
        elif word in FOLLOWS and rest != ["in"] and not (CHANGES | SIGNS.keys()) & {*rest}:
            return out + part[i + len(rest) :]  # 5 in total, but 12 in^2
        elif unit or any(map(is_plural, rest)) or out[-1] in ("/", 1):
            out, power = [*out, f"#{unit}", *power], []  # 7 cm, 12 red balls, 5 cups per man, 1 egg
        else:
            raise Unreadable(f"{word} beside a number")
    return out


def is_plural(word: str) -> bool:
    """Does it name what is counted?"""
    no = ("ss", "us", "is", "fths", "xths", "nths", "hths", "eths", "illions")  # less, minus, sixteenths
    return word in COUNTED or (len(word) > 3 and word[-1] == "s" and not word.endswith(no))
