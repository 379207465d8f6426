"""What an expression is worth: fractions exactly, all else in floats.

Floats are compared to ten digits. If a value has lost them on its way (a float beside 10^30, out of range),
it is unreadable. A fraction with a large denominator, such as 3.14159265358979, is
never equal to a constant that is a float. Read on in compare.py.
"""

import cmath
import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial, reduce

Number = Fraction | float | complex
MAX_BITS = 1 << 15  # of an exact power; 2004! has 19,000
CLOSE, NOISE = 1e-10, 1e-13  # relative difference of equal floats; a sum that cancels so far is zero
SIMPLE = 10**4  # the largest denominator of a fraction that a float may be equal to


def checked(x: Number) -> Number:
    """The number, real if it can be. ArithmeticError if it is undefined, too large or out of range."""
    x = x.real if isinstance(x, complex) and x.imag == 0 else x
    if isinstance(x, Fraction) and max(x.numerator.bit_length() >> 2, x.denominator.bit_length()) > MAX_BITS:
        raise OverflowError("too large")
    if not isinstance(x, Fraction) and (x != x or (x and not 1e-290 < abs(x) < 1e290 and abs(x) != math.inf)):
        raise OverflowError("outside the range of a float") if x == x else ArithmeticError("undefined")
    return x


def real(a: Number) -> Fraction | float:
    if abs(a.imag) > 1e-12 * abs(a):
        raise ArithmeticError("not a real number")
    return a.real


def close(a: Number, b: Number, allowed: float = 0.0, constants: bool = False) -> bool:
    exact = [x.denominator for x in (a, b) if isinstance(x, Fraction)]
    if not allowed and (len(exact) == 2 or (constants and exact and exact[0] > SIMPLE)):
        return a == b
    return a == b or abs(a - b) <= max(CLOSE, allowed) * max(abs(a), abs(b)) < math.inf


def add(a: Number, b: Number) -> Number:
    """a + b, or 0 where the two cancel as far as their rounding. OverflowError if one hides the other."""
    total, size = checked(a + b), max(abs(a), abs(b))
    if not isinstance(total, Fraction) and 0 < min(abs(a), abs(b)) < 1e-9 * size < math.inf:
        raise OverflowError("digits are lost")
    return total if isinstance(total, Fraction) or abs(total) >= NOISE * size else Fraction(0)


def function(f: Callable, a: Number) -> Number:
    """f(a) in floats; what is 0 but for its rounding is 0."""
    value = f(a) if abs(a) <= 10**6 else math.nan  # an angle without digits
    return Fraction(0) if abs(value) <= NOISE / 10 else checked(value)


def power(a: Number, b: Number) -> Number:
    """a to the b: exact if it can be, real for an odd root of a negative number, else the principal value."""
    exact = isinstance(a, Fraction) and isinstance(b, Fraction)
    if a == 0:
        return Fraction(0) if exact and b > 0 else a / Fraction(0)
    if exact and b.denominator == 1:
        if abs(b) * (max(abs(a.numerator), a.denominator).bit_length() - 1) > MAX_BITS:
            raise OverflowError("too large")
        return a ** int(b)
    if exact and a < 0 and b.denominator % 2:
        return (-1) ** b.numerator * power(-a, b)
    if exact and a > 0 and (root := Fraction(math.isqrt(a.numerator), math.isqrt(a.denominator))) ** 2 == a:
        return power(root, 2 * b)
    return checked(a**b) or checked(1e-300)  # too small


def log(a: Number, base: Number = math.e) -> Number:
    return checked(cmath.log(a or math.nan) / cmath.log(base or math.nan))  # 0 has none


def natural(a: Number) -> int:
    if not isinstance(a, Fraction) or a.denominator > 1 or not 0 <= a <= 3000:
        raise ArithmeticError("not a natural number, or too large")
    return int(a)


def whole(a: Number, rounding: Callable, up: int) -> Fraction:
    """The whole number below or above; a float may have missed it by its rounding."""
    return Fraction(rounding(a if isinstance(a, Fraction) else real(a) + up * 1e-9))


sin, cos = partial(function, cmath.sin), partial(function, cmath.cos)
OPERATIONS: dict[str, Callable[..., Number]] = {
    "sum": lambda *terms: reduce(add, terms),
    "prod": lambda *factors: reduce(lambda a, b: checked(a * b), factors),
    "div": lambda *parts: reduce(lambda a, b: checked(a / b), parts),
    "pow": power, "abs": abs, "factorial": lambda a: Fraction(math.factorial(natural(a))),
    "binom": lambda a, b: Fraction(math.comb(natural(a), natural(b))),
    "floor": lambda a: whole(a, math.floor, 1), "ceil": lambda a: whole(a, math.ceil, -1),
    "exp": lambda a: power(math.e, a), "ln": log, "log": log, "lg": lambda a: log(a, 10.0),
    "sin": sin, "cos": cos, "tan": lambda a: sin(a) / cos(a), "cot": lambda a: cos(a) / sin(a),
    "sec": lambda a: 1 / cos(a), "csc": lambda a: 1 / sin(a), "arctan": partial(function, cmath.atan),
    "arcsin": partial(function, cmath.asin), "arccos": partial(function, cmath.acos),
}  # fmt: skip
CONSTANTS: dict[str, Number] = {"π": math.pi, "e": math.e, "i": 1j, "∞": math.inf, "#": Fraction(1)}
EXPRESSIONS = {"num", "name", *OPERATIONS}
