r"""The grammar of answers: tokens become a tree of tuples, (kind, *parts). Read on in values.py.

("num", Fraction(1, 2))  ("name", "x")  ("name", "#cm")  ("sum", tree, tree)  ("[)", tree, tree)
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from .tokens import FUNCTIONS, tokens
from .words import Token, Unreadable, resolved

Tree = tuple
MAX_ITEMS = 64  # elements of one list, which are matched in any order; a quarter of the terms of one sum
STRENGTH = {"≈": 1, "=": 2, ":": 5, "*": 7, "/": 7, "^": 8} | dict.fromkeys("<≤>≥≠∈", 3)
STRENGTH |= dict.fromkeys("∪∩∖", 4) | dict.fromkeys("+-±", 6) | dict.fromkeys("!%°_'", 9)
KINDS = {"+": "sum", "-": "sum", ":": "ratio", "^": "pow", "/": "div"} | {op: op for op in "≈=<≤>≥≠∈∪∩∖"}
CONDITIONS = {*"<≤>≥≠∈∩"}
SEPARATORS = (",", ";", "\\", '"and', '"or')
ENDS = {*SEPARATORS, *")]}|&⌋⌉⟩?", "", "\\}", "end"}
BRACKETS = {"(": ")]", "[": ")]", "\\{": ("\\}",), "{": "}", "⟨": "⟩", "|": "|", "⌊": "⌋", "⌈": "⌉"}
ENCLOSED, INTERVALS = {"|": "abs", "⌊": "floor", "⌈": "ceil"}, ("()", "[)", "(]", "[]")
ONE, MINUS, TWO = (("num", Fraction(n)) for n in (1, -1, 2))
SETS = {"∅": ("{}",), "ℝ": ("()", ("prod", MINUS, ("name", "∞")), ("name", "∞"))}
EITHER = ("name", "±")  # 1 and -1
DEGREE, PERCENT, ANGLE = ("name", "#°"), ("name", "#%"), ("div", ("name", "π"), ("num", Fraction(180)))


def parse(text: str) -> Tree:
    """Raises Unreadable, or RecursionError for what is nested deeper than Python's stack."""
    found = resolved(tokens(text))
    while found[-1:] and found[-1] in (",", ";", ":", "\\"):
        found.pop()
    return Parser(found).answer()


class Parser:
    """Recursive descent over the tokens; operators bind by their STRENGTH.

    answer     = ["(" letter ")"] items                                   a choice may stand before its value
    items      = expression {("," | ";" | "and" | "or") expression}       in brackets a tuple, interval or set
    expression = prefix {operator expression | expression | "!" | "%" | "°" | "'" | "_" group}
    operator   = "=" | "<" | "∈" | ... | "∪" | "∩" | "∖" | ":" | "+" | "-" | "±" | "*" | "/" | "^"
    prefix     = ("-" | "+" | "±") expression | number [fraction] | name ["(" simple ")"] | unit | matrix
               | "frac" argument argument | "sqrt" ["[" expression "]"] argument | "(" items ")"
               | function expression
    """

    def __init__(self, toks: list[Token]) -> None:
        self.toks, self.i, self.bars = toks, 0, 0

    def peek(self, ahead: int = 0) -> Any:
        return self.toks[self.i + ahead] if self.i + ahead < len(self.toks) else ""

    def take(self, *wanted: str) -> Any:
        """The next token if it is one of these (or any, if none is named), else ""."""
        found = not wanted or self.peek() in wanted
        self.i += found
        return self.toks[self.i - 1] if found and self.i <= len(self.toks) else ""

    def fail(self) -> Any:
        raise Unreadable(f"unexpected {self.peek() or 'end'}")

    def answer(self) -> Tree:
        while self.take("=", "≈"):
            pass
        letter, after = str(self.peek(1)).strip('"'), self.peek(3)
        chosen = self.peek() == "(" and self.peek(2) == ")" and letter in tuple("ABCDEFGH")
        chosen = chosen and not (after in ENDS or after in STRENGTH or after == "(")
        self.i += 3 * chosen
        kind, *items = self.items()
        tree = items[0] if len(items) == 1 else (kind, *items)
        return self.fail() if self.peek() != "" else ("choice", ("name", letter), tree) if chosen else tree

    def items(self) -> Tree:
        """Elements up to a closing bracket or the end: a "list", or after an "or" alternatives."""
        kind, items = "list", [self.expression()]
        while (joint := self.take(*SEPARATORS)) and len(items) < MAX_ITEMS:
            joint = self.take('"and', '"or') or joint
            kind = "or" if joint == '"or' else kind
            items.append(self.expression())
        kind = "∩" if kind == "list" and all(item[0] in CONDITIONS for item in items) else kind
        return (kind, *items) if not joint else self.fail()

    def expression(self, level: int = 0, argument: bool = False) -> Tree:
        """What binds more strongly than `level`, and so does a product in an argument like that of sin 2x."""
        left = self.prefix(level)
        while True:
            token = self.peek()
            closed = token in ENDS if token != "|" else self.bars > 0
            closed = closed or (argument and (token == "(" or token in FUNCTIONS))
            strength = 0 if closed else STRENGTH.get(token, 7 + argument)
            if strength <= level:
                return left
            self.i += token in STRENGTH and token != "±"
            if isinstance(token, Fraction) and self.toks[self.i - 1] != ")" and not is_unit(left):
                raise Unreadable("two numbers side by side")
            if strength == 9:
                left = self.postfix(left, token)
            else:
                right = self.expression(strength - (token == "^"))
                left = join(left, "+" if token == "±" else token, right)

    def postfix(self, left: Tree, sign: str) -> Tree:
        below = self.group() if sign == "_" else ""
        if sign in "_'" and left[0] == "name":
            return self.applied(left[1] + sign + below)
        if sign in "_'" and left[0] != "num":
            self.fail()
        if sign in "%°":
            return ("prod", left, ("name", f"#{sign}"))
        kinds = {"!": "factorial", "_": f"base {below}", "'": ""}
        return left if below == "10" else (kinds[sign], left)

    def group(self) -> str:
        """The text of the next token, or of all up to the next closing brace."""
        start = self.i
        while self.take() not in ("", "}") and self.toks[start] == "{":
            pass
        return "".join(map(str, self.toks[start : self.i])).strip("{}")

    def prefix(self, level: int = 9) -> Tree:
        token = self.take()
        if token in ("-", "+", "±"):
            return ("prod", {"-": MINUS, "+": ONE, "±": EITHER}[token], self.expression(max(level, 6)))
        if isinstance(token, Fraction):
            return self.number(("num", token))
        if token in BRACKETS:
            return self.bracket(token)
        if token in ("frac", "binom"):
            return ("div" if token == "frac" else "binom", self.argument(), self.argument())
        if token in ("√", "sqrt"):
            index = self.bracket(self.take()) if self.peek() == "[" else TWO
            return ("pow", self.prefix() if token == "√" else self.argument(), ("div", ONE, index))
        if token == "begin":
            return self.matrix()
        if token in FUNCTIONS:
            return self.function(token)
        if token in ENDS or token in STRENGTH:
            self.fail()
        return SETS.get(token) or self.applied(token)

    def applied(self, name: str) -> Tree:
        """f(x), f'(2) and x_1(t) are one name; \\pi(x) and AB(x) are products."""
        inside = str(self.peek(1)).strip('"')
        simple = (self.peek(), self.peek(2)) == ("(", ")") and inside.isalnum() and name[1:2] in "_'"
        self.i += 3 * (simple and name not in "πei∞")
        return ("name", f"{name}({inside})" if simple and name not in "πei∞" else name)

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
        first, rest = str(self.peek())[:1], str(self.peek())[1:]
        self.toks[self.i : self.i + 1] = [Fraction(rest)] if rest else []
        return ("num", Fraction(first))

    def bracket(self, opening: str) -> Tree:
        outside, self.bars = self.bars, int(opening == "|")
        if opening == "\\{" and self.take("\\}"):
            return ("{}",)
        over = 3 if (self.peek(1), self.peek(2)) == ("∈", "ℝ") else 1
        if opening == "\\{" and self.peek(over) in ("|", ":") and str(self.peek()).isalpha():  # {x | x > 2}
            self.i += over + 1
        _, *items = self.items()
        kind, self.bars = opening + (self.take(*BRACKETS[opening]) or self.fail()), outside
        if len(items) == 1 and opening in ENCLOSED:
            return (ENCLOSED[opening], items[0])
        if len(items) == 1 and (kind in ("()", "[]", "{}") or items[0][0] in ("=", *CONDITIONS)):
            return items[0]
        return ("{}" if "{" in opening else kind if kind in INTERVALS else "()", *items)

    def matrix(self) -> Tree:
        """A tuple of rows, which are tuples; a column is the tuple of its entries."""
        rows, sign = [[]], "&"
        while sign and self.peek() != "end":
            rows[-1].append(self.expression())
            sign = self.take("&", "\\")
            rows += [[]] if sign == "\\" and self.peek() != "end" else []
        column = (self.take("end") or self.fail()) and len(rows) > 1 and {*map(len, rows)} == {1}
        return ("()", *(row[0] if column else ("()", *row) for row in rows))

    def function(self, name: str) -> Tree:
        r"""\sin^2 2x, \log_2 n. Without brackets the argument is a product, up to "(" or another function."""
        scripts = {sign: self.prefix(8) for _ in "^_" if (sign := self.take("^", "_"))}
        if ("_" in scripts and name != "log") or scripts.get("^") == ("prod", MINUS, ONE):
            self.fail()
        argument = self.prefix() if self.peek() in BRACKETS else self.expression(7, True)
        tree = (name, put(argument, {DEGREE: ANGLE}.get), *([scripts["_"]] if "_" in scripts else []))
        return ("pow", tree, scripts["^"]) if "^" in scripts else tree


def is_unit(tree: Tree) -> bool:
    return tree[0] == "name" and tree[1][0] == "#"


def join(left: Tree, op: Any, right: Tree) -> Tree:
    """A tree from an operator and its sides; sums and products are flat, a < b < c is a < b and b < c."""
    last = left[-1] if left[0] == "∩" else left
    if len(left) > 4 * MAX_ITEMS:
        raise Unreadable("too many terms")
    if op in CONDITIONS and last[0] in CONDITIONS:
        op, right = "∩", (op, last[-1], right)
    kind, right = KINDS.get(op, "prod"), ("prod", MINUS, right) if op == "-" else right
    return (kind, *(left[1:] if left[0] == kind != "pow" else [left]), right)


def put(tree: Tree, change: Callable[[Tree], Tree | None]) -> Tree:
    """The tree with `change(node)` for each node where it is not None."""
    return change(tree) or tuple(put(part, change) if isinstance(part, tuple) else part for part in tree)


def nodes(*trees: Tree) -> Iterator[Tree]:
    for tree in trees:
        yield tree
        yield from nodes(*(part for part in tree if isinstance(part, tuple)))
