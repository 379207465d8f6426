r"""An answer's text as tokens: Unicode, LaTeX and plain text become one language. Read on in grammar.py."""

import contextlib
import unicodedata
from fractions import Fraction

from .find import DIGITS, LETTERS, MAX_ANSWER, closing, run
from .words import FUNCTIONS, Token, Unreadable, letters, table

REPLACE = table(  # \5 marks thousands, \6 and \7 the braces of small digits, ␣ is a space
    "{,} {,␣}; \5 {,} ,\\! \\!,; \5 \5␣; ␣ ~ \\,; ° ^{\\circ} ^\\circ; ' ^{\\prime}; ℝ \\mathbb{R}; ≤ <=;"
    "≥ >=; ≠ !=; ␣ **␣; ^ **; = ==; \\text{am} a.m. a.m; \\text{pm} p.m. p.m; ␣ np."
)
REPLACE = {old.replace("␣", " "): new.replace("␣", " ") for old, new in REPLACE.items()}
REPLACE |= {"\7^\6": "", "\7_\6": "", "\6": "{", "\7": "}"}  # 10²³ has one exponent
NFKC = {c: unicodedata.normalize("NFKC", c) for c in "⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ₀₁₂₃₄₅₆₇₈₉½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
SMALL = {c: "^_"[c in "₀₁₂₃₄₅₆₇₈₉"] + f"\6{digit}\7" for c, digit in NFKC.items() if len(digit) == 1}
SMALL |= {c: "\\frac{" + digits.replace("⁄", "}{") + "}" for c, digits in NFKC.items() if len(digits) > 1}
SMALL = str.maketrans(SMALL)
SAME = table(  # what is read as the sign at the beginning: ␣ is dropped, ? unreadable, M a matrix
    "- − – ‐; * × · ⋅ ∙ cdot times ast; / ÷ ⁄ ∕ div; ≤ ⩽ le leq leqslant; ≥ ⩾ ge geq geqslant; ≠ ne neq;"
    "< lt; > gt; = equiv; ≈ approx simeq; : colon; % %; ' ′ ’ prime; | vert lvert rvert mid; ⌊ lfloor;"
    "⌋ rfloor; ⌈ lceil; ⌉ rceil; ⟨ langle; ⟩ rangle; [ lbrack; ] rbrack; \\{ { lbrace; \\} } rbrace;"
    "° º degree circ; ∪ cup; ∩ cap; ∖ setminus backslash; ∈ in; ∅ emptyset varnothing; ± pm; ∞ infty;"
    '∠ angle; △ triangle; ℝ R; ∀ forall; "dollar $; "euro €; "£ £; "max max; "min min; sqrt sqrt; \\ \\;'
    "frac dfrac tfrac cfrac frac; binom dbinom tbinom binom; λ lambda; Λ Lambda; ε varepsilon; φ varphi;"
    "ℏ hbar; ℓ ell; T text textbf textit textrm textnormal textsf mbox hbox mathrm operatorname mathsf;"
    "M matrix pmatrix bmatrix array; B begin end; C color textcolor; ? sum prod int iint oint lim mod pmod"
    " bmod choose substack overset underset; ␣ left right big Big bigg Bigg bigl bigr Bigl Bigr displaystyle"
    " textstyle limits boxed fbox mathbf bm vec hat bar overline underline boldsymbol mathcal mathit quad"
    " qquad Rightarrow ( ) [ ] , : ! > bf rm it tiny small normalsize large Large LARGE huge Huge checkmark"
    " blacksquare square ✓ ■ □"
)
SAME |= dict.fromkeys((" ", "\n", ";"), "␣") | {name: name for name in FUNCTIONS}
SIGNS = {*"+()[]{},;!^_√\\&", *SAME.values()}


def tokens(text: str, quoted: int = 0) -> list[Token]:
    r"""Linear in the length, which is at most MAX_ANSWER. `quoted`: by so many \text{} around it."""
    if len(text) > MAX_ANSWER or quoted > 4:
        raise Unreadable("too long, or too deep")
    text = text if text.isascii() else text.translate(SMALL)
    for old, new in REPLACE.items():
        text = text.replace(old, new)
    text = text if "\\begin" in text else text.replace("\\\\", "\\")  # without rows, \\pi was escaped twice
    out, i, inside = [""], 0, 0  # open brackets
    while i < len(text):
        start, c = i, text[i]
        i += 1
        if c in DIGITS or (c == "." and run(text, i, DIGITS) > i):
            value, i = numeral(text, start, inside > 0)
            out.append(value)
        elif c in LETTERS:
            i = run(text, i, LETTERS)
            out += letters(text, start, i, out, quoted)
        elif c == "." and (str(out[-1])[:1] == '"' or not text[i:].strip(" .$}*")):
            continue
        elif c not in ' \n\t\r$"`' and (c != "&" or "begin" in out):  # outside a matrix & is styling
            i = max(run(text, i, LETTERS), i + 1) if c == "\\" else i
            name = text[start + (c == "\\") : i]
            sign = name if c != "\\" and name in SIGNS else symbol(name)
            found, i = command(text, i, name, sign, quoted) if sign in ("T", "B", "C") else ([sign], i)
            i += name in ("left", "right") and text[i : i + 1] == "."
            inside += (sign in ("(", "[", "\\{")) - (sign in (")", "]", "\\}"))
            out += [token for token in found if token != "␣"]
    return out[1:]


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
    """The token of a sign or command."""
    if SAME.get(name, "?") != "?":
        return SAME[name]
    if unicodedata.name(name[:1] or "?", "").startswith("GREEK"):
        return name
    with contextlib.suppress(KeyError):
        return unicodedata.lookup(f"GREEK {'SMALL' if name[:1].islower() else 'CAPITAL'} LETTER {name}")
    if name in SAME or len(name) < 2:
        raise Unreadable(name)
    return "\\" + name  # \odot is a name like others


def numeral(text: str, i: int, inside: bool) -> tuple[Fraction, int]:
    r"""The number at i, exactly, and its end.

    Groups of three digits are one number, 27,54,108 is a list. In brackets a comma separates, but not `{,}`.
    """
    end = k = run(text, i, DIGITS)
    digits, part, cycle, exponent, mark = text[i:end], "", "", 0, text[end : end + 1]
    if 0 < len(digits) < 4 and digits[0] != "0" and mark in ("\5", " ", "" if inside else ","):
        while text.startswith(mark, k) and run(text, k + 1, DIGITS) == k + 4:
            k += 4
        if not text.startswith(mark, k) or run(text, k + 1, DIGITS) == k + 1:
            digits, end = text[i:k].replace(mark, ""), k
    if text[end : end + 1] == ".":
        start, end = end + 1, run(text, end + 1, DIGITS)
        part = text[start:end]
        bar = end + 1 + text[end : end + 10].find("{")
        if text[end:bar] in ("\\overline{", "\\bar{", "\\dot{") and (stop := run(text, bar, DIGITS)) > bar:
            cycle, end = text[bar:stop], stop + 1
    if text[end : end + 1] in ("e", "E"):
        first = end + 1 + (text[end + 1 : end + 2] in ("+", "-"))
        stop = run(text, first, DIGITS)
        if stop > first and text[stop : stop + 1] not in (*LETTERS, "^"):
            exponent, end = int(text[end + 1 : stop][:5]), stop
    if abs(exponent) > 999:
        raise Unreadable("too large")
    value = Fraction(int(digits + part or "0"), 10 ** len(part))
    value += Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(part)) if cycle else 0
    return value * Fraction(10) ** exponent if exponent else value, end
