"""Do two trees stand for the same answer? Values as numbers, expressions at fixed points, sets by their
members. Read on in __init__.py."""

import contextlib
import itertools
import math
from fractions import Fraction
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from .find import LETTERS, LOWER
from .grammar import CONDITIONS, EITHER, INTERVALS, MINUS, ONE, PERCENT, Tree, is_unit, nodes, put
from .values import CONSTANTS, EXPRESSIONS, OPERATIONS, Number, close, real
from .words import Unreadable

ROUNDED = 0.02  # relative difference between a value and what is said to be about it
MAX_WORK = 3_000  # steps of one comparison, and kilobits of its results
# Where an unknown is tried: positive and negative, large and small, so that domains show; and whole numbers,
# of which factorials have values. Other expressions of an answer's size hardly agree at all of them.
TRIALS = [(Fraction(p, q), n) for p, q, n in ((5, 2, 7), (-1, 7, 13), (1, 97, 89), (1, 3, 11), (7, 1, 23))]
WHOLE = ((Fraction(1), 11), (Fraction(1), 23), (Fraction(1), 7))
FAR = [Fraction(sign * 10**k, 700) for k in range(10) for sign in (1, -1)]
HUNDREDTH, X = ("num", Fraction(1, 100)), ("name", "x")
GROUPS = ("list", "or", "{}")
LABELS = {"name", "div", "ratio", "()", "list", "sin", "cos", "tan", "abs", "sum", "prod"}
RELATIONS = {"<": lt, "≤": le, ">": gt, "≥": ge, "≠": ne, "=": eq}
REGIONS = {"{}": any, "or": any, "∪": any, "∩": all, "∖": lambda inside: next(inside) and not any(inside)}


def letters(name: str) -> str | tuple[str]:
    """The factors of a name: AB is A times B, but x_1 and f(x) are one."""
    return name if len(name) > 1 and all(c in LETTERS for c in name) else (name,)


def names(*trees: Tree) -> set[str]:
    return {name for node in nodes(*trees) if node[0] == "name" for name in letters(node[1])}


def unknowns(*trees: Tree) -> list[str]:
    """Names that have no fixed value."""
    return sorted(names(*trees) - CONSTANTS.keys())


def unknown(tree: Tree) -> bool:
    """Is it an expression whose value is not fixed?"""
    return tree[0] in EXPRESSIONS and bool(unknowns(tree))


def units(tree: Tree) -> set[str]:
    return {name for name in unknowns(tree) if name[0] == "#"}


def word(tree: Tree) -> str:
    """A name as it is compared with another: AB, B, x_1 as they are, East as east."""
    text = tree[1].lstrip('"')
    lower = text.translate(LOWER)
    return lower if text.isalpha() and (len(text) > 2 or lower == "no") else text


def bare(tree: Tree, percent: Tree) -> Tree:
    """A quantity without its units."""
    return put(tree, lambda node: (percent if node == PERCENT else ONE) if is_unit(node) else None)


def is_label(tree: Tree) -> bool:
    """Does a side of an equation only name a quantity: x, f(2), AB, NO/BO, dy/dx, (x, y), "the area", |z|,
    m+n? Sums, products and absolute values of x and y are what equations are made of."""
    kinds, found = {node[0] for node in nodes(tree)}, names(tree)
    composed = kinds & {"sum", "abs", "prod"} or (tree[0] == "name" and tree[1] not in found)
    return kinds <= LABELS and not found & CONSTANTS.keys() and not (composed and {"x", "y"} & found)


def elements(tree: Tree) -> list[Tree]:
    """The members of a list or set, or the one thing itself; each ± written out."""
    items = tree[1:] if tree[0] in GROUPS else [tree]
    return [
        x
        for item in items
        for x in {put(item, lambda node, x=x: x if node == EITHER else None) for x in (ONE, MINUS)}
    ]


class Check:
    """One comparison: the relative difference that it allows in numbers, and the work it may still do."""

    def __init__(self, allowed: float = 0.0) -> None:
        self.allowed, self.work = allowed, MAX_WORK

    def spend(self, steps: int = 1) -> None:
        self.work -= steps
        if self.work < 0:
            raise Unreadable("too much work")

    def same(self, a: Tree, b: Tree) -> bool:
        """Do two trees stand for the same answer?"""
        self.spend(len(a) + len(b))
        a, b = self.settled(a), self.settled(b)
        kinds = {a[0], b[0]}
        for one, other in ((a, b), (b, a)):
            if one[0] == "choice" != other[0]:
                return self.same(one[1], other) or self.same(one[2], other)
            if one[0] == "def" and (other[0] not in ("def", "=") or one[:2] == other[:2]):
                return self.same(one[2], other[-1] if other[0] == "def" else other)
        if kinds <= {"def", *RELATIONS}:
            return self.same_relation(a, b)
        if kinds & {*CONDITIONS, "∪", "∖"}:
            return self.same_region(a, b)
        if kinds & {*GROUPS}:
            return self.same_elements(a, b)
        if kinds == {"name"}:
            return word(a) == word(b)
        if kinds <= EXPRESSIONS:
            return self.same_value(a, b)
        return a[0] == b[0] and len(a) == len(b) and all(map(self.same, a[1:], b[1:]))

    def settled(self, tree: Tree) -> Tree:
        """What an equation or membership gives: a value, or ("def", label, value); others stay as they are.

        An equation is a claim. It gives its last side if it is true (2+4 = 6) or a definition (x = 6). An
        untrue claim gives nothing, and 2x = 12 no value.
        """
        kind, *sides = tree
        if kind not in ("=", "≈", "∈"):
            return tree
        if kind == "=" and is_label(sides[1]) and sides[1][1][:1] != '"' and not is_label(sides[0]):
            sides.reverse()  # 5 = x, but not "5 is wrong"
        labels = len([*itertools.takewhile(is_label, sides[:-1])])
        values = sides[labels:]
        for a, b in itertools.pairwise(values):
            if not (self if kind == "=" else Check(ROUNDED)).same(a, b):
                if len(sides) == 2 and unknowns(tree):
                    return tree
                raise ArithmeticError("an untrue claim")
        value = self.settled(values[-1 if kind == "=" else 0])  # what was rounded
        return ("def", sides[0], value) if labels else value

    def same_elements(self, a: Tree, b: Tree) -> bool:
        """Lists and sets in any order; but x = 1, y = 2 is 1, 2 or (1, 2) in this order only."""
        xs, ys = ([self.settled(x) for x in elements(tree)] for tree in (a, b))
        named = [len({x[1] for x in items if x[0] == "def"}) == len(items) > 1 for items in (xs, ys)]
        if named[0] != named[1]:
            values, other = (xs, b) if named[0] else (ys, a)
            listed = other[0] in ("()", *GROUPS)
            return listed and self.same(("()", *(x[2] for x in values)), ("()", *other[1:]))
        for x in xs:
            candidates = sorted(ys, key=lambda y, x=x: y != x)  # what is written the same first
            match = next((y for y in candidates if self.same(x, y)), None)
            if match is None:
                return False
            ys.remove(match)
        return not ys

    def same_relation(self, a: Tree, b: Tree) -> bool:
        """Two equations or inequalities: is left - right a multiple, and the sign as it must be?"""
        zeros = [bare(("sum", left, ("prod", MINUS, right)), ONE) for _, left, right in (a, b)]
        pairs = self.trials(*zeros)
        u, v = next((pair for pair in pairs if all(pair)), (0, 1))
        kinds = [{"def": "="}.get(kind, kind) for kind, *_ in (a, b)]
        if u and kinds[0] not in "=≠" and real(u / v) < 0:
            kinds[0] = "><≥≤"["<>≤≥".index(kinds[0])]
        return kinds[0] == kinds[1] and u != 0 and all(close(x * v, y * u) for x, y in pairs)

    def same_region(self, a: Tree, b: Tree) -> bool:
        """Sets of reals: equal if one is solved for x, and they have the same members at, beside, between and
        beyond the numbers in them."""
        a, b = bare(a, ONE), bare(b, ONE)
        solved = [all(node[0] == "name" for node in nodes(tree) if unknown(node)) for tree in (a, b)]
        if len(unknowns(a, b)) > 1 or "i" in names(a, b) or not any(solved):
            return a == b
        ends = self.marks(a, b)
        beside = [x + step for x in ends for step in (-1e-6, 1e-6)]
        return all(self.member(a, x) == self.member(b, x) for x in [*ends, *beside, *FAR])

    def marks(self, a: Tree, b: Tree) -> list[Any]:
        """The real numbers written in two trees, and those half way between them."""
        fixed = lambda node: node[0] in EXPRESSIONS and not unknowns(node) and "i" not in names(node)
        constants = filter(fixed, nodes(a, b))
        ends = sorted({self.tried(node, {}) for node in constants} - {None, math.inf, -math.inf})
        return [*ends, *((x + y) / 2 for x, y in itertools.pairwise(ends))]

    def member(self, tree: Tree, x: Number) -> bool:
        """Is a real number in an interval, set or union, or does it satisfy relations?"""
        kind, *parts = tree
        if kind in INTERVALS and len(parts) == 2:
            low, high = ("<≤"[end in "[]"] for end in kind)
            kind, parts = "∩", [(low, parts[0], X), (high, X, parts[1])]
        if kind in REGIONS:
            return REGIONS[kind](self.member(part, x) for part in parts)
        if kind in EXPRESSIONS:
            kind, parts = "=", [X, tree]
        values = [self.tried(side, dict.fromkeys(("x", *unknowns(tree)), x)) for side in parts]
        return None not in values and RELATIONS[kind](*values)

    def same_value(self, a: Tree, b: Tree) -> bool:
        """Are two expressions one function of their unknowns? Of their units too, unless one has none, and
        28% is then 28 or 0.28."""
        if not unknowns(a, b):
            return close(self.value(a, {}), self.value(b, {}), self.allowed, constants=True)
        if units(a) == units(b):
            return all(close(x, y) for x, y in self.trials(a, b))
        left_out = [[bare(tree, percent) for tree in (a, b)] for percent in (ONE, HUNDREDTH)]
        return not (units(a) and units(b)) and any(self.same_value(*pair) for pair in left_out)

    def trials(self, a: Tree, b: Tree) -> list[tuple[Number, Number]]:
        """The values of two expressions at fixed points; different ones where one or both are undefined."""
        found, free, kinds = [], unknowns(a, b), {node[0] for node in nodes(a, b)}
        places = lambda t, n: ((31 * k + 17 * t + 13 * k * t) % n + 2 for k in range(len(free)))
        trials = WHOLE if kinds & {"factorial", "binom"} else TRIALS
        points = [[scale * place for place in places(t, n)] for t, (scale, n) in enumerate(trials)]
        corners = len(free) == 1 and kinds & {"abs", "floor", "ceil"}
        for point in points + ([[x] for x in self.marks(a, b)] if corners else []):
            at = dict(zip(free, point, strict=True))
            x, y = (self.tried(tree, at) for tree in (a, b))
            found += [] if x is y is None else [(0, 1) if x is None or y is None else (x, y)]
        return found if len(found) > 1 else [(0, 1)]

    def tried(self, tree: Tree, point: dict[str, Number]) -> Number | None:
        """The value at a point; None if it is undefined, too large, or not real although no i is written."""
        with contextlib.suppress(ArithmeticError):
            value = self.value(tree, point)
            return value if "i" in names(tree) else real(value)
        return None

    def value(self, tree: Tree, point: dict[str, Number]) -> Number:
        """The number an expression stands for at a point; too much work makes it unreadable."""
        kind, *parts = tree
        self.spend()
        if kind == "num":
            return parts[0]
        if kind == "name":
            kind, values = "prod", [(point | CONSTANTS)[name] for name in letters(parts[0])]
        else:
            values = [self.value(part, point) for part in parts]
        result = OPERATIONS[kind](*values)
        if isinstance(result, Fraction):
            self.spend((result.numerator.bit_length() + result.denominator.bit_length()) >> 10)
        return result
