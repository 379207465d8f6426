r"""An answer's text as tokens: Unicode, LaTeX and plain text become one language. Read on in grammar.py."""

import contextlib
import unicodedata
from fractions import Fraction
from itertools import groupby

from .find import DIGITS, LETTERS, MAX_ANSWER, closing, run
from .words import FUNCTIONS, Token, Unreadable, letters, table

REPLACE = table(  # \5 marks thousands, ␣ is a space
    "{,} {,␣}; \5 {,} ,\\! \\!,; \5 \5␣; ␣ ~ \\,; ° ^{\\circ} ^\\circ; ' ^{\\prime}; ℝ \\mathbb{R}; ≤ <=;"
    "≥ >=; ≠ !=; ␣ **␣; ^ **; = ==; \\text{am} a.m. a.m; \\text{pm} p.m. p.m; ␣ np.; ∪ ␣U␣; )∪ )U; ]∪ ]U;"
    "×10 ␣x␣10; ∀ for␣all; ␣ ,␣which; \\dots ... …;"
    "∅ \\{\\}; ∅ \\{␣\\}; \\overline{ \\bar{; .\\overline{ .\\dot{"
)
REPLACE = {old.replace("␣", " "): new.replace("␣", " ") for old, new in REPLACE.items()}
SCRIPTS = dict.fromkeys("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ", "^") | dict.fromkeys("₀₁₂₃₄₅₆₇₈₉", "_")
SCRIPTS |= dict.fromkeys("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", "\\frac")
SAME = table(  # what is read as the first of its row; ␣ is dropped, T text, B begin or end, M matrix, C color
    "- − – ‐; * × · ⋅ ∙ cdot times ast; / ÷ ⁄ ∕ div; ≤ ⩽ le leq leqslant; ≥ ⩾ ge geq geqslant; ≠ ne neq; < "
    "lt; > gt; = equiv; : colon; ≈ approx simeq; % %; ' ′ ’ prime; | vert lvert rvert mid; ⌊ lfloor; ⌋ "
    "rfloor; ⌈ lceil; ⌉ rceil; ⟨ langle; ⟩ rangle; \\{ { lbrace; \\} } rbrace; ° º degree circ; ∪ cup; ∩ "
    "cap; ∖ setminus backslash; ∈ in; ∅ emptyset varnothing; ± pm; ∞ infty; ∠ angle; △ triangle; ℝ R; ∀ "
    'forall; "dollar $; "euro €; "£ £; "max max; "min min; √ sqrt; \\ \\; div dfrac tfrac cfrac frac;'
    "binom dbinom tbinom binom; ℏ hbar; ℓ ell; ⊙ odot; \\dot dot; \\ddot ddot; \\tilde tilde; λ lambda; Λ "
    "Lambda; ε varepsilon; φ varphi; T text textbf textit textrm textnormal textsf mbox hbox mathrm mathsf "
    "operatorname; M matrix pmatrix bmatrix array; B begin end; C color textcolor; ␣ left right big Big "
    "bigg Bigg bigl bigr Bigl Bigr displaystyle textstyle limits boxed fbox mathbf bm vec hat bar overline "
    "underline boldsymbol mathcal mathit quad qquad ( ) [ ] , : ! > bf rm it tiny small normalsize large "
    "Large LARGE huge Huge Rightarrow checkmark blacksquare square ✓ ■ □"
)
SAME |= dict.fromkeys((" ", "\n", ";"), "␣") | {name: name for name in FUNCTIONS}
PLAIN = {*"+()[]{},;!^_√\\&", *SAME.values()}


def tokens(text: str, quoted: int = 0) -> list[Token]:
    r"""Linear in the length, which is at most MAX_ANSWER. `quoted`: by so many \text{} around it."""
    if len(text) > MAX_ANSWER or quoted > 4:
        raise Unreadable("too long, or too deep")
    text = text if text.isascii() else scripted(text)
    for old, new in REPLACE.items():
        text = text.replace(old, new)
    text = text if "\\begin" in text else text.replace("\\\\", "\\")  # without rows, \\pi was escaped twice
    out, i, inside = [""], 0, 0  # open brackets
    while i < len(text):
        start, c = i, text[i]
        i += 1
        if c in DIGITS and out[-1] != "{" and {"div", "binom"} & {*out[-2:]}:  # \frac12
            out.append(Fraction(c))
        elif c in DIGITS or (c == "." and run(text, i, DIGITS) > i):
            value, i = numeral(text, start, inside > 0)
            out.append(value)
        elif c in "eE" and text[i - 2 : start].isdecimal() and text[i : i + 2].lstrip("+-")[:1].isdecimal():
            out += ["*", Fraction(10), "^"]  # 6.02e23
        elif c in LETTERS:
            i = run(text, i, LETTERS)
            out += letters(text, start, i, out, quoted)
        elif c not in ' \n\t\r$"`.' and (c != "&" or "begin" in out):  # outside a matrix & is styling
            i = max(run(text, i, LETTERS), i + 1) if c == "\\" else i
            name = text[start + (c == "\\") : i]
            sign = name if c != "\\" and name in PLAIN else symbol(name)
            found, i = command(text, i, name, sign, quoted) if sign in ("T", "B", "C") else ([sign], i)
            inside += (sign in ("(", "[", "\\{")) - (sign in (")", "]", "\\}"))
            out += [token for token in found if token != "␣"]
    return out[1:]


def scripted(text: str) -> str:
    """10²³ is 10^{23}, 1½ is 1\\frac{1}{2}."""
    parts = [(mark, "".join(part)) for mark, part in groupby(text, SCRIPTS.get)]
    plain = lambda part: unicodedata.normalize("NFKC", part).replace("⁄", "}{")
    return "".join(f"{mark}{{{plain(part)}}}" if mark else part for mark, part in parts)


def command(text: str, i: int, name: str, kind: str, quoted: int) -> tuple[list[Token], int]:
    r"""The tokens of \text{}, \begin{}, \end{} and \color{}, and where these end."""
    brace = run(text, i, " ")
    stop = closing(text, brace)
    content = text[brace + 1 : stop - 1].strip() if stop else ""
    if not stop and text[brace : brace + 1] == "{":
        raise Unreadable("an open brace")
    if kind == "T":
        math = not stop or content in (*FUNCTIONS, "e", "i", "d")
        return ([], i) if math else (tokens(content, quoted + 1), stop)
    stop = max(i, stop, closing(text, stop) if content == "array" else 0)
    return [name] if SAME.get(content) == "M" else [], stop


def symbol(name: str) -> str:
    """The token of a sign or command; ? is unreadable."""
    if name in SAME or "Α" <= name <= "ω":
        return SAME.get(name, name)
    with contextlib.suppress(KeyError):
        return unicodedata.lookup(f"GREEK {'SMALL' if name[:1].islower() else 'CAPITAL'} LETTER {name}")
    return "?"


def numeral(text: str, i: int, inside: bool) -> tuple[Fraction, int]:
    r"""The number at i, exactly, and its end.

    Groups of three digits are one number, 27,54,108 is a list. In brackets a comma separates, but not `{,}`.
    """
    end = run(text, i, DIGITS)
    digits, part, cycle, mark = text[i:end], "", "0", text[end : end + 1]
    if mark in ("\5", " ", " " if inside else ","):
        grouped = text[i : i + run(text[i : i + 99], 0, DIGITS + mark)].rstrip(mark)
        first, *rest = grouped.split(mark)
        if len(first) < 4 and {*map(len, rest)} == {3}:
            digits, end = first + "".join(rest), i + len(grouped)
    if text[end : end + 1] == ".":
        start, end = end + 1, run(text, end + 1, DIGITS)
        part, bar = text[start:end], end + len("\\overline{")
        if text[end:bar] == "\\overline{" and (stop := run(text, bar, DIGITS)) > bar:
            cycle, end = text[bar:stop], stop + 1
    nines = 10 ** len(cycle) - 1
    return Fraction(int(digits + part or "0") * nines + int(cycle), nines * 10 ** len(part)), end
