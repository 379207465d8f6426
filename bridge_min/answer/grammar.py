r"""The grammar of answers: tokens become a tree of tuples, (kind, *parts). Read on in values.py.

("num", Fraction(1, 2))  ("name", "x")  ("name", "#cm")  ("sum", tree, tree)  ("[)", tree, tree)
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from .tokens import FUNCTIONS, tokens
from .words import Token, Unreadable, resolved

Tree = tuple
MAX_ITEMS = 64  # elements of one list, which are matched in any order
STRENGTH = {"≈": 1, "=": 2, ":": 5, "*": 7, "/": 7, "%": 7, "^": 8} | dict.fromkeys("<≤>≥≠∈", 3)
STRENGTH |= dict.fromkeys("∪∩∖", 4) | dict.fromkeys("+-±", 6) | dict.fromkeys("!°_'", 9)
KINDS = {"+": "sum", "-": "sum", ":": "ratio", "^": "pow", "/": "div"} | {op: op for op in "≈=<≤>≥≠∈∪∩∖"}
CONDITIONS = {*"<≤>≥≠∈∩"}
SEPARATORS = (",", ";", "\\", '"and', '"or')
ENDS = {*SEPARATORS, *")]}&⌋⌉⟩?", "", "\\}", "end"}
BRACKETS = {"(": ")]", "[": ")]", "\\{": ("\\}",), "{": "}", "⟨": "⟩", "|": "|", "⌊": "⌋", "⌈": "⌉"}
ENCLOSED, INTERVALS = {"|": "abs", "⌊": "floor", "⌈": "ceil"}, ("()", "[)", "(]", "[]")
ONE, MINUS, TWO, TEN = (("num", Fraction(n)) for n in (1, -1, 2, 10))
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
    expression = prefix {operator expression | expression | "!" | "%" | "°" | "'" | "_" prefix}
    operator   = "=" | "<" | "∈" | ... | "∪" | "∩" | "∖" | ":" | "+" | "-" | "±" | "*" | "/" | "^"
    prefix     = ("-" | "+" | "±") expression | number | name ["(" simple ")"] | "(" items ")" | matrix
               | ("div" | "binom") prefix prefix | "√" ["[" expression "]"] prefix | function expression
    """

    def __init__(self, toks: list[Token]) -> None:
        self.toks, self.i, self.ends = toks, 0, ()

    def peek(self, ahead: int = 0) -> Any:
        return self.toks[self.i + ahead] if self.i + ahead < len(self.toks) else ""

    def take(self, *wanted: str) -> Any:
        """The next token if it is one of these (or any, if none is named), else ""."""
        token = self.peek() if not wanted or self.peek() in wanted else ""
        self.i += token != ""
        return token

    def fail(self) -> Any:
        raise Unreadable(f"unexpected {self.peek() or 'end'}")

    def answer(self) -> Tree:
        letter = str(self.peek(1)).strip('"')
        brackets = (self.peek(), self.peek(2)) == ("(", ")")
        if brackets and letter in tuple("ABCDEFGH") and self.peek(3) not in ENDS:
            self.i += 3
            return ("choice", ("name", letter), self.answer())
        tree = self.items()
        return self.fail() if self.peek() != "" else tree if len(tree) > 2 else tree[1]

    def items(self, separators: tuple[str, ...] = SEPARATORS) -> Tree:
        """Elements up to a closing bracket or the end: a "list", or after an "or" alternatives."""
        kind, items = "list", [self.expression()]
        while (joint := self.take(*separators)) and len(items) < MAX_ITEMS:
            joint = self.take('"and', '"or') or joint
            kind = "or" if joint == '"or' else kind
            items.append(self.expression())
        items = [item for item in items if item[2:] != (SETS["ℝ"],)] or items  # x ∈ ℝ says nothing
        kind = "∩" if kind == "list" and all(item[0] in CONDITIONS for item in items) else kind
        return (kind, *items)

    def expression(self, level: int = 0, argument: bool = False) -> Tree:
        """What binds more strongly than `level`, and so does a product in an argument like that of sin 2x."""
        left = self.prefix(level)
        while True:
            token = self.peek()
            closed = token in ENDS or token in self.ends or (argument and token in ("(", *FUNCTIONS))
            strength = 0 if closed else STRENGTH.get(token, 7 + argument)
            if strength <= level:
                return left
            self.i += token in STRENGTH and token != "±"
            number = isinstance(token, Fraction)
            if number and self.toks[self.i - 1] != ")" and not is_unit(left) and self.peek(1) != "/":
                raise Unreadable("two numbers side by side")
            if strength == 9 or token == "%":
                left = self.postfix(left, token)
            else:
                right = self.expression(strength - (token == "^" or number))
                left = join(left, "+" if token == "±" else token, right)

    def postfix(self, left: Tree, sign: str) -> Tree:
        """A name with its script or prime; n!, 50%, 30°, 101_2, which is not 101."""
        below = self.prefix() if sign == "_" else ""
        if sign == "!" == self.toks[self.i - 2]:  # n!! is another function
            self.fail()
        if sign in "_'" and left[0] == "name":
            return self.applied(f"{left[1]}{sign}{below}")
        if sign in "%°":
            return ("prod", left, ("name", f"#{sign}"))
        return left if below == TEN else ("factorial" if sign == "!" else f"base {below}", left)

    def prefix(self, level: int = 9) -> Tree:
        token = self.take()
        if token in ("-", "+", "±"):
            return ("prod", {"-": MINUS, "+": ONE, "±": EITHER}[token], self.expression(max(level, 6)))
        if isinstance(token, Fraction):
            return ("num", token)
        if token in BRACKETS:
            return self.bracket(token)
        if token in ("div", "binom"):
            return (token, self.prefix(), self.prefix())
        if token == "√":
            index = self.bracket(self.take()) if self.peek() == "[" else TWO
            return ("pow", self.prefix(), ("div", ONE, index))
        if token == "begin":
            return self.matrix()
        if token in FUNCTIONS:
            return self.function(token)
        if token in ENDS or token in STRENGTH:
            self.fail()
        return SETS.get(token) or self.applied(token)

    def applied(self, name: str) -> Tree:
        """f(x), f'(2) and x_1(t) are one name; \\pi(x) and AB(x) are products. Where an index or argument is
        more than a sign, the name ends with the text of its tree."""
        inside = str(self.peek(1)).strip('"')
        simple = (self.peek(), self.peek(2)) == ("(", ")") and inside.isalnum() and name[1:2] in "_'"
        if self.peek() == "(" and not simple and name[0] == "f" and name[1:2] in "_'":  # f(1-x) is no product
            return ("name", f"{name}{self.prefix()}")
        self.i += 3 * (simple and name not in "πei∞")
        return ("name", f"{name}({inside})" if simple and name not in "πei∞" else name)

    def bracket(self, opening: str) -> Tree:
        outside, self.ends = self.ends, {"|": ("|",), "\\{": ("|", ":")}.get(opening, ())
        _, *items = self.items()
        element = items[0][0] == "name" or items[0][2:] == (SETS["ℝ"],)
        if opening == "\\{" and element and self.take("|", ":"):  # {x | x > 2}, {x ∈ ℝ | x > 2}
            conditions = self.items()
            items = [conditions] if len(conditions) > 2 else conditions[1:]
        kind, self.ends = opening + (self.take(*BRACKETS[opening]) or self.fail()), outside
        if len(items) == 1:
            return (ENCLOSED[opening], *items) if opening in ENCLOSED else items[0]
        return ("{}" if "{" in opening else kind if kind in INTERVALS else "()", *items)

    def matrix(self) -> Tree:
        """A tuple of rows, which are tuples; a column is the tuple of its entries."""
        rows = []
        while not self.take("end"):
            rows.append(self.items(("&",))[1:])
            self.take("\\")
        column = (rows or self.fail()) and len(rows) > 1 and {*map(len, rows)} == {1}
        return ("()", *(row[0] if column else ("()", *row) for row in rows))

    def function(self, name: str) -> Tree:
        r"""\sin^2 2x, \log_2 n. Without brackets the argument is a product, up to "(" or another function."""
        scripts = {sign: self.prefix(8) for _ in "^_" if (sign := self.take("^", "_"))}
        if ("_" in scripts and name != "log") or scripts.get("^") == ("prod", MINUS, ONE):
            self.fail()
        argument = self.prefix() if self.peek() in BRACKETS else self.expression(7, True)
        tree = (
            name,
            put(argument, lambda node: ANGLE if node == DEGREE else None),
            *([scripts["_"]] if "_" in scripts else []),
        )
        return ("pow", tree, scripts["^"]) if "^" in scripts else tree


def is_unit(tree: Tree) -> bool:
    return tree[0] == "name" and tree[1][0] == "#"


def join(left: Tree, op: Any, right: Tree) -> Tree:
    """A tree from an operator and its sides; sums and products are flat, a < b < c is a < b and b < c."""
    last = left[-1] if left[0] == "∩" else left
    if op in CONDITIONS and last[0] in CONDITIONS:
        op, right = "∩", (op, last[-1], right)
    match left, right:
        case ("num", _), ("div", ("num", p), ("num", q)) if op not in STRENGTH and p < q:  # 3 1/2
            return ("sum", left, right)
    kind, right = KINDS.get(op, "prod"), ("prod", MINUS, right) if op == "-" else right
    return (kind, *(left[1:] if left[0] == kind != "pow" else [left]), right)


def put(tree: Tree, change: Callable[[Tree], Tree | None]) -> Tree:
    """The tree with `change(node)` for each node where it is not None."""
    return change(tree) or tuple(put(part, change) if isinstance(part, tuple) else part for part in tree)


def nodes(*trees: Tree) -> list[Tree]:
    """The trees and all trees in them."""
    found = [*trees]
    for tree in found:  # which grows
        found += [part for part in tree if isinstance(part, tuple)]
    return found
