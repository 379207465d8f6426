"""The answer checker, by example: what is the same answer, where a response gives it, what is refused.

The two tables are the specification. A line "§ ..." is a statement, and the lines below it show it: one
answer, then what is the same as it (~) and what is not (≁). Below the tables: single statements, random
expressions and numbers, labelled cases and gold answers (`../shared/data`), and strings made to hurt.
Read on in bridge_min/answer/__init__.py.
"""

import ast
import decimal
import json
import random
import threading
from fractions import Fraction
from pathlib import Path

import pytest

from bridge_min.answer import extract_answer, is_correct, read, reference_problem
from bridge_min.answer.compare import Check
from bridge_min.answer.tokens import Unreadable

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent")

MATHEMATICS = r"""
§ a number is itself with a sign, zeros, a full stop, brackets or spaces
5 ~ 5. ~ 5.0 ~ +5 ~ 05 ~ {5} ~ ((5)) ~ 5\quad ~ 5\, ~ \,5\; ≁ 6 ≁ -5
-5 ~ −5 ~ (-5)
§ styling and dollars around an answer are not part of it
5 ~ \boxed{5} ~ \fbox{5} ~ \mathbf{5} ~ \textbf{5} ~ \text{5} ~ $5$ ~ \(5\) ~ \[5\] ~ \text{5 cm}
1/2 ~ \displaystyle\frac12 ~ \left(\frac12\right)
§ groups of three digits are one number, except in brackets
1234 ~ 1,234 ~ 1{,}234 ~ 1\,234 ~ 1 234 ~ 1\!,234 ≁ 1.234 ≁ 12.34
1.234 ≁ 1{,}234
12345.5 ~ 12\,345.5 ≁ 12,345
1234567 ~ 1,234,567
123 ≁ 1,23 ≁ 1 23
(1,234) ~ (1, 234) ≁ (1234)
5 ≁ 1,2,3,4,5
§ a fraction, a decimal and a mixed number may be one number
1/2 ~ .5 ~ 0.5 ~ \frac12 ~ 2/4 ~ \frac{2}{4} ~ -\frac{1}{-2} ≁ 0.50001 ≁ \frac13 ≁ 2 ≁ 12
-\frac12 ~ \frac{-1}{2} ~ -.5
2 ~ \frac{1}{\frac{1}{2}} ≁ \frac{1}{2}
3/2 ~ 1\frac12 ~ 1½ ~ 1 1/2 ~ 1.5 ≁ \frac12 ≁ 1 ≁ 2\frac12
-3/2 ~ -1\frac{1}{2}
3/4 ~ ¾ ~ 0.75
§ decimals repeat under a bar and nowhere else
1/3 ~ 0.\overline{3} ~ 0.\bar{3} ≁ 0.333333333333 ≁ 0.33 ≁ 0.333... ≁ 0.3
1/7 ~ 0.\overline{142857}
\frac{38}{45} ~ 0.8\overline{4} ≁ 0.\overline{84}
§ a percentage is its number, with or without the sign, or a hundredth of it
50\% ~ 1/2 ~ 50 ~ 0.5 ~ 50% ~ 50 percent
\frac{1}{30} ~ 3\frac{1}{3}\%
28\% ≁ 2800 ≁ 2.8 ≁ 0.28\%
§ powers of ten may be written as scientific notation
6.02e23 ~ 6.02\times10^{23} ~ 6.02 x 10^23 ~ 6.02 \cdot 10^{23} ~ 6.02×10²³ ≁ 6.02\cdot e\cdot23
0.001 ~ 1E-3 ~ 10^{-3} ~ 10^-3 ~ 1/1000
§ units, currencies and counted things may be left out
5 ~ \$5 ~ $5 ~ \$5.00 ~ 5\text{ dollars} ~ 5 dollars ~ \text{USD } 5 ~ €5 ~ 5\text{ cents}
5 ~ 5\text{ cm} ~ 5 cm ~ 5\,\text{cm}^2 ~ 5\text{ square inches} ~ 5\mathrm{~m} ~ 5\ \mathrm{m/s}
5 ~ 5 apples ~ 5 cups per man ~ \text{5 cm}^2 ~ 5\ \mathrm{cm}^{-1} ~ 5 \text{ m}/\text{s}
5 ~ 5\frac{\text{m}}{\text{s}} ~ \frac{10}{2}\text{ hours} ~ n = 5 \text{ apples}
60 ~ 60 km/h ~ 60\text{ km/h} ~ 60\text{ miles per hour}
1000 ~ \$1,000
3e8 ~ 3.0 \times 10^8 \text{ m/s} ~ 3.0\times10^{8}\,\mathrm{m\,s^{-1}}
§ a wrong unit is wrong
5 cm ~ 5\text{ centimeters} ≁ 5 m
5\text{ hours} ≁ 5\text{ minutes}
\$5 ~ 5 dollars ≁ 5\text{ cents}
60\text{ mph} ~ 60\text{ miles per hour}
5:00\text{ PM} ~ 5:00 p.m. ≁ 5:00 a.m.
5\text{ PM} ~ \text{5 p.m.} ~ 5\text{ pm}
§ words of size multiply
5000000 ~ 5\text{ million} ≁ 5
1.2\times10^9 ~ 1.2 billion
36 ~ 3 dozen
§ degrees may be left out, but not inside a function
90 ~ 90^\circ ~ 90^{\circ} ~ 90° ~ 90 degrees ~ 90\degree
90° ≁ \frac{\pi}{2}
1/2 ~ \sin 30^\circ ~ \sin(30°) ~ \cos 60^{\circ} ≁ \sin 30
\frac{\sqrt6+\sqrt2}{2} ~ 2\cos 15^{\circ}
§ a root may be written in many ways and is compared as a number
\sqrt2 ~ √2 ~ √(2) ~ sqrt(2) ~ sqrt 2 ~ \sqrt 2 ~ \sqrt{2} ~ 2^{1/2} ≁ \sqrt3 ≁ 1.414
2 ~ \sqrt[3]{8} ~ \sqrt 4
-2 ~ \sqrt[3]{-8}
2^{1/3} ~ \sqrt[3]{2}
\frac{\sqrt2}{2} ~ \frac{1}{\sqrt2}
1+\sqrt2 ~ \sqrt{3+2\sqrt2} ~ \frac{1}{\sqrt2-1}
5\sqrt3 ~ 5√3 ~ \sqrt{12}+\sqrt{27}
\sqrt{3}+10^{30} ≁ \sqrt{2}+10^{30}
§ pi is no decimal
\pi ~ pi ~ π ≁ 3.14 ≁ 3.14159265358979 ≁ \frac{22}{7}
\pi/2 ~ π/2 ~ \frac{\pi}{2} ~ \frac\pi2 ~ 0.5\pi
§ arithmetic is carried out
1024 ~ 2^{10} ~ 2^10 ~ 2**10
-8 ~ (-2)^3
-4 ~ -2^2
1/4 ~ 4^{-1} ~ 1/2/2
4 ~ 8^{2/3} ~ 10 - 3 \cdot 2 ~ \lceil 3.2\rceil
6 ~ 2\times 3 ~ (2)(3) ~ 2(3) ~ 2·3
120 ~ 5! ≁ 5 ≁ 121
720 ~ (3!)! ≁ 6!!
10 ~ \binom{5}{2} ~ \dbinom{5}{2} ~ \binom52
5 ~ |{-5}| ~ \left|-5\right| ~ \lvert -5 \rvert ~ |-5|+|3|-3 ~ 7 - 2
3 ~ \lfloor 3.7 \rfloor ~ ⌊3.7⌋ ~ \lfloor\sqrt{9}\rfloor ~ 6÷2
§ functions have their values
3 ~ \log_2 8 ~ \log_{2}{8} ~ \log_2(8) ~ \frac{\log 8}{\log 2} ~ e^{\ln 3} ≁ 8
2 ~ \log_{10} 100 ~ \ln e^2
1 ~ \ln(e) ~ \tan\frac{\pi}{4}
3\ln 2 ~ \ln 8 ~ 3\log_e 2
e^2 ~ \exp(2) ~ \mathrm{e}^{2}
1/2 ~ \sin\frac{\pi}{6}
\frac{\pi}{4} ~ \arctan 1
\frac{\pi}{2} ~ \arcsin 1
§ large and small numbers are compared exactly
100 ~ \frac{100!}{99!}
\frac{1}{2004!} ~ \frac{2005}{2005!} ≁ \frac{1}{2005!}
\frac{\pi}{2004!} ≁ \frac{\pi}{2005!}
2^{1009} ~ 2\cdot2^{1008} ≁ 2^{1010}
\frac{4 \cdot 999^{4}}{27} ~ 148\cdot 999^4/999
10^{-10} ≁ 10^{-9} ≁ 0
e^{-1000} ≁ e^{-1001} ≁ 0
0 ≁ 10^{-40}\pi
§ what is undefined equals nothing, not even itself
\frac{0}{0} ≁ \frac{0}{0} ≁ 0
\frac10 ≁ \frac10 ≁ \infty
0^0 ≁ 1
\ln 0 ≁ -\infty
\infty-\infty ≁ \infty-\infty ≁ 0
§ what is too large to compute equals nothing else
9 ≁ 9^{9^{9^{9}}} ≁ 9^9^9^9 ≁ e^{e^{e^{e^9}}} ≁ x^{x^{x^{x}}} ≁ 10000000! ≁ 1e999999999 ≁ \sin(10^{1000})
§ infinity has a sign
\infty ~ +\infty ~ inf ≁ -\infty
-\infty ~ -∞
§ the base of a number is part of it, except ten
52_8 ~ 52_{8} ≁ 42 ≁ 52 ≁ 52_9 ≁ 2
101_{2} ~ 101_2 ~ 0101_2
24 ~ 24_{10}
152A_{11} ~ 152A_{11}
§ complex numbers
2i ~ (1+i)^2 ~ \sqrt{-4} ~ 2\mathrm{i} ≁ 2
1+2i ~ 2i+1 ≁ 1-2i
-1 ~ i^2 ~ e^{i\pi}
i ~ \frac{1+i}{1-i} ~ -\frac{1}{i} ≁ 1 ≁ -1
5 ~ |3+4i|
§ expressions are compared as functions of their names
x^2+1 ~ x²+1
x_1+x_2 ~ x₁+x₂ ~ \vec{x}_1+x_2
2x ~ 2*x ≁ 2
x^2+x ~ x(x+1)
x^2-1 ~ (x+1)(x-1)
x+1 ~ \frac{x^2-1}{x-1} ≁ x
x/y ~ \frac{x}{y}
2xy ~ 2yx ~ x y\cdot2
x ≁ y ≁ x^2 ≁ |x| ≁ \sqrt{x^2} ≁ x_1 ≁ \sin x ≁ x+10^{-9}
x_1 ≁ x_2
a+b ≁ a-b ≁ ab
|x-1|+|x-2| ≁ |2x-3|
|x-i|+i ~ i+|i-x| ≁ |x-i|
AB ≁ ab
x^2+2x ≁ x^2+2x+1
C_{1}e^{t} ~ C_1 e^t
\alpha\beta ~ \beta\alpha ~ βα
1/x ~ x^{-1} ~ \frac{x+1}{x(x+1)}
\frac{1-x}{2} ~ \frac{-(x-1)}{2}
§ identities of functions hold
\sin^2 x ~ 1-\cos^2 x
\sin 2x ~ 2\sin x\cos x
\tan x ~ \frac{\sin x}{\cos x} ~ \frac{1}{\cot x} ≁ \frac{\cos x}{\sin x}
e^{2x} ~ (e^x)^2
2^{n+1} ~ 2\cdot2^n
|x| ~ \sqrt{x^2}
\sqrt{x-2} ~ (x-2)^{1/2} ~ (x-2)^{\frac12}
\ln x^2 ~ 2\ln|x| ≁ 3\ln x ≁ 2\ln x
\ln x ≁ \log_{10} x
\log_{3}{x} ~ \frac{\ln x}{\ln 3}
n ~ \frac{n!}{(n-1)!} ≁ \frac{(n+1)!}{n!}
\frac{n(n-1)}{2} ~ \binom{n}{2} ~ \frac{n^2-n}{2}
\binom{2n}{n} ~ \frac{(2n)!}{n!n!}
\lceil n / 2\rceil ~ \lceil \frac{n}{2}\rceil
§ what an answer is called may be left out
5 ~ x=5 ~ AB = 5 ~ \overline{AB}=5 ~ x_{\max}=5 ~ \{x : x=5\} ~ \begin{aligned} x&=5\end{aligned}
5 ~ f(2)=5 ~ x_1=5 ~ \frac{AB}{CD}=5 ~ \cos\theta=5 ~ P(A)=5 ~ Area = 5 ~ \text{Area} = 5
5 ~ \text{Area of triangle } ABC = 5 ~ x \approx 5 ~ \approx 5 ~ =5
60 ~ \angle ABC = 60^\circ ~ m\angle A = 60^\circ
x=5 ~ 5 ~ 5 = x ≁ y=5 ≁ x=6
x+1 ~ f(x)=x+1 ~ y=1+x ~ x+1=y
f(x)=1+x ~ f(x)=x+1
2x ~ \frac{dy}{dx}=2x
x^2 ~ S=x^2 ~ y=f(x)=x^2
§ a rounded value may follow an exact one
\sqrt2 ~ \sqrt{2} \approx 1.414 ~ x = \sqrt{2} \approx 1.414 ≁ \sqrt{2} \approx 1.9
§ an equation gives its value only if it is true
6 ~ 2+4=6 ~ 1+5=6=6 ~ x=2+4=6 ≁ x=5=6 ≁ x+1=6 ≁ 3<6
5=6 ≁ 6 ≁ 5
2x=10 ≁ 10 ≁ 5
7 ≁ 7=11a+c ≁ a+7z=7
5 ≁ |x|=5 ≁ \log_2 x=5 ≁ 5+f(0)
§ equations are equal with their multiples
y=2x+1 ~ 2x-y+1=0 ~ y-2x=1 ≁ y=2x+2
x+y=1 ~ 2x+2y=2 ≁ x+y=2
x^2+y^2=4 ~ y^2=4-x^2
y=2x ≁ x=2y
x=3 ≁ 3x=3
§ an inequality is equal with its multiples and with its interval
x>3 ~ (3,\infty) ~ 2x>6 ~ 3<x ≁ x\ge3 ≁ x<3 ≁ y>3 ≁ [3,\infty)
x\ge3 ~ x≥3 ~ 3\le x ~ [3,\infty)
(3,5] ~ 3<x\le5 ~ 5\ge x>3 ≁ 3<x<5
(-\infty,1)\cup(3,\infty) ~ x<1 or x>3 ~ x<1 \text{ or } x>3 ≁ x<1 and x>3
-2x<6 ~ x>-3 ≁ x<-3
x+y<3 ~ -x-y>-3 ≁ -x-y<-3
x^2>4 ~ 8<2x^2 ~ (-\infty,-2)\cup(2,\infty) ≁ x^2>4.0001
(-2,2) ≁ x^2<4.0001
x\neq3 ~ (-\infty,3)\cup(3,\infty) ~ \mathbb{R}\setminus\{3\}
§ sets of reals are equal if their members are
\mathbb{R} ~ (-\infty,\infty) ~ (-\infty,+\infty)
(0,2)\setminus\{1\} ~ (0,1)\cup(1,2)
[0,2] ~ [0,1]\cup[1,2] ≁ [0,1)\cup(1,2]
[3,4] ≁ \{3,4\} ≁ [3,3]\cup[4,4]
[-2,2] ~ x^2\le4 ~ |x|\le2 ≁ |x|<2
[-1.4,1.4] ≁ x^2\le 2
0<x^2<2 ≁ 0<x^2<1.9
(3,4)\cup(1,2) ~ (1,2)\cup(3,4) ~ (1,2) U (3,4)
[2,3] ~ [1,3]\cap[2,4]
(0,1) ~ x\in(0,1) ≁ (0,2)
[0,1) ~ \left[0,1\right) ~ 0\le x<1 ~ x \in [0,1) ≁ (0,1] ≁ (0,1) ≁ [0,1]
(\frac12,1) ~ (0.5,1) ≁ [0.5,1]
(2,\infty) ~ \{x|x>2\} ≁ \{x \mid x\ge2\}
(1,3] ~ \{x \mid 1<x\le3\}
(-\infty,2)\cup(3,\infty) ≁ (-\infty,2]\cup(3,\infty) ≁ (-\infty, 2) \text{ and } (3,\infty)
5 ≁ 5 \cup 6
§ a tuple has an order
(1,2) ~ (1, 2) ~ (1,\;2) ~ \left(1,2\right) ~ (x,y)=(1,2) ~ \langle 1,2\rangle ≁ (2,1) ≁ 1,2 ≁ 12 ≁ \{1,2\}
(1,2) ~ x=1,y=2 ~ x=1 \text{ and } y=2 ~ x=1,\ y=2 ~ \begin{align*} x&=1\\ y&=2\end{align*}
x=1,y=2 ~ y=2,x=1 ≁ (2,1) ≁ x=2,y=1 ≁ 1
§ a list or set has none, and all of its members count
1,2 ~ 2,1 ~ \{1,2\} ~ 1 and 2 ~ 1 \text{ or } 2 ≁ 1 ≁ 2 ≁ 12 ≁ 1,2,3 ≁ 1,2,2 ≁ 1,2,\dots
1,2 ~ 2 and 1 ~ x=1 or x=2 ~ x=1, 2 ~ x=1,x=2 ~ 2,\,1
\{1,2\} ~ \{2,1\} ~ 1 \text{ and } 2 ≁ 1
1,2,3 ~ 1, 2, and 3
1 ~ \{1\} ≁ 1,1 ≁ 1 or 2 ≁ 1 \text{ or } 2
(1,2),(3,4) ~ (3,4),(1,2) ~ (1,2) and (3,4) ~ (1,2);(3,4) ≁ (1,2),(4,3) ≁ 1,2,3,4
\emptyset ~ \varnothing ~ \{\} ~ ∅ ≁ 0
§ ± is two answers
5,-5 ~ \pm 5 ~ ±5 ~ x=\pm5
\pm5 ~ x=\pm5 ≁ 5 ≁ 5,5
\frac{1+\sqrt5}{2},\frac{1-\sqrt5}{2} ~ \frac{1\pm\sqrt5}{2}
-2,-1,1,2 ~ \{\pm1,\pm2\}
(1,2),(1,-2) ~ (1,\pm2)
§ matrices and vectors are compared entry by entry
\begin{bmatrix}1&2\\3&4\end{bmatrix} ~ \begin{pmatrix} 1 & 2 \\ 3 & 4 \\ \end{pmatrix}
\begin{bmatrix}1&2\\3&4\end{bmatrix} ~ \left(\begin{array}{cc}1&2\\3&4\end{array}\right)
\begin{bmatrix}1&2\\3&4\end{bmatrix} ≁ \begin{bmatrix}1&3\\2&4\end{bmatrix}
(1/2,1) ~ \begin{pmatrix}0.5\\1\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} ~ (1,2) ≁ \begin{pmatrix}1&2\end{pmatrix} ≁ 2
§ a ratio is its parts
1:2 ~ 1 : 2 ~ \text{the ratio is } 1:2 ≁ 2:1 ≁ 1:3 ≁ 2
1:20 ~ 1 : 20 ≁ 2:40 ≁ 1:21
4\!:\!51\!:\!06 ~ 4:51:06
§ a choice is its letter
B ~ (B) ~ \text{(B)} ~ \textbf{(B)} ~ \mathrm{B} ~ option B ≁ A ≁ (A) ≁ b2
\text{C, A} ~ A, C ~ \text{A and C}
AB ≁ A ≁ \text{ABC}
§ words are compared without case, and as wholes
\text{east} ~ east ~ East ≁ \text{not east} ≁ seat ≁ \text{west}
Evelyn ~ \text{Evelyn} ~ \text{ Evelyn }
even ~ \mathrm{even} ≁ \text{odd or even}
\text{no solution} ~ no solution
neither ~ \text{neither}
\triangle ABC ~ \triangle ABC
§ words that change a number refuse it
5 ≁ not 5 ≁ at least 5 ≁ less than 5 ≁ at most 5 ≁ either 5 ≁ half 5 ≁ 5 squared ≁ 5 or 6
5 ≁ \text{square root of }5 ≁ 5 \text{ is wrong} ≁ 5 \text{ and not } 6
§ digits beside letters or digits are no number of their own
2 ≁ AZYUK2 ≁ Room2 ≁ abc2 ≁ ²
52 ≁ 5² ≁ 5 2 ≁ 52 52 ≁ 5x2 ≁ 26 2
2x ≁ x2
§ what is empty, broken or outside the grammar is equal at most to what is written the same
p\to q ~ p \to q ≁ q\to p
A\subset B ≁ B\subset A
x\notin A ≁ A\notin x
3.14... ≁ 3.14
5 ≁ 5=\begin{matrix}\end{matrix}
5 ≁ \begin{pmatrix}5 ≁ -- ≁ () ≁ \text{} ≁ ? ≁ 5? ≁  ≁ \boxed{} ≁ \dots ≁ \sum n ≁ \frac{5 ≁ (5 ≁ [5 ≁ {5
x ≁ \int x
x=k\pi,k\in\mathbb{Z} ~ x = k\pi, k \in \mathbb{Z}
§ digits are those of ASCII
5 ≁ ٥ ≁ ５ ≁ 五
1.5 ≁ 1٫5
§ what is counted may be named after a number, unless it scales, divides or doubts
12 ~ 12 \text{ eggs} ~ 12 eggs ~ 12\text{ pieces of candy} ~ 12 people ~ 12 \text{ red balls}
7 ~ 7\text{ square units} ~ 7 cubic feet ~ 7\text{ units}^2 ~ 7\text{ each} ~ 7 years old
7 ≁ 7 \text{ trillion} ≁ 7 tenths ≁ 7 halves ≁ 7 hundredths ≁ 7 \text{ (rejected)}
7 ≁ 7 rejected ≁ 7 times larger
7 ≁ 7 dozen ≁ 7 \text{ in doubt} ≁ 7 \text{ at most} ≁ 7 \text{ or more} ≁ 7 thousandths ≁ 7 less ≁ 7 perhaps
7000000000000 ~ 7 \text{ trillion} ~ 7 trillion dollars
0.7 ~ 7 tenths ~ 7\text{ tenths}
3.5 ~ 7 halves
0.07 ~ 7 hundredths
3 ≁ 3 sixteenths ≁ 3 twelfths ≁ 3 negative units
1 ~ 1 \text{ egg} ~ 1 \text{ hour} ~ 1 apple
§ before a number only what announces or labels it
7 ~ about 7 ~ the value 7 ~ \text{a total of } 7 ~ exactly 7 ~ \text{Total: } 7 ~ \text{the length is } 7
7 ≁ \text{square of } 7 ≁ \text{multiples of } 7 ≁ \text{divisible by } 7 ≁ up to 7 ≁ above 7 ≁ below 7
7 ≁ almost 7 ≁ anything but 7 ≁ incorrect: 7 ≁ \text{not } 7 ≁ \text{wrong answer: } 7 ≁ minus 7 ≁ twice 7
§ a word is compared as a word, a product of letters where it is written as mathematics
cat ~ \text{cat} ~ Cat ≁ tac ≁ act ≁ \text{tac}
abc ≁ cba ≁ bca
2xy ~ 2yx ~ 2 y x
xy+1 ~ yx+1
x^2y ~ yx^2
§ units are compared as units
12\text{ in}^2 ~ 12 square inches ~ 12 in total ≁ 12\text{ in} ≁ 144
15 cm^3 ~ 15 ~ 15\text{ cm}^3 ~ 15 cubic centimeters ≁ 15 cm^2 ≁ 15 cm ≁ 15 m^3
3 m/s ~ 3\ \mathrm{m\,s^{-1}} ~ 3 meters per second ≁ 3 m
60 km/h ~ 60 kilometers per hour ~ 60\,\mathrm{km\,h^{-1}} ≁ 60 km ≁ 60 h
7 cm ~ 7 ≁ 7 cm²
7\text{ g} ~ 7 \text{ grams} ≁ 7 mg ≁ 7 \text{ kg} ≁ 7 ounces
7\text{ nm} ~ 7 nanometers ≁ 7 mm ≁ 7\text{ m}
7 yards ~ 7 yd ≁ 7 feet ≁ 7 m
7 radians ~ 7\text{ rad} ≁ 7 degrees ≁ 7°
7 mL ~ 7\text{ milliliters} ≁ 7 L
7\% ~ 7 ≁ 7^\circ ≁ \$7
7^\circ ~ 7 ≁ \$7 ≁ 7\%
\$7 ~ 7 ~ 7 dollars ≁ 7 cents ≁ €7
§ a quantity is named by a letter, a sum of letters or an application
10 ~ m+n=10 ~ m+n = 3+7 = 10 ~ a+b+c=10 ~ p+q = 10 ≁ m+n=11 ≁ m+n = 3+8 = 10 ≁ x+y=10 ≁ 2m=10
5 ~ |z|=5 ~ f(5)=5 ~ |a+b|=5 ≁ |z|=6 ≁ |z-1|=5
x(t)=2t ~ 2t ≁ x=2t
y(t)+1 ~ 1+y(t) ≁ yt+1
f(1-x) ≁ -f(x-1)
f(2x)+f(3x) ≁ f(5x)
F(x) ≁ f(x)
y(0)e^{-kt} ~ e^{-kt}y(0)
f(x)=2x ~ f(x) = 2x \text{ for all } x > 0 ~ f(x)=2x, \text{ for all } x
f(x)=2x ≁ f(x)=2x \text{ for all } x \text{ except } 0
§ equations between words or names commute
A = B ~ B = A ≁ A = C
\text{mom} = \text{Anna} ~ \text{Anna} = \text{mom}
§ conditions on one name hold together
(5,\infty) ~ \{x \in \mathbb{R} : x > 5\} ~ \{x \in \mathbb{R} \mid x > 5\} ≁ \{x \in \mathbb{R} : x \ge 5\}
2<x<9, x \neq 3 ~ 2<x<9 \text{ and } x\neq3 ~ (2,3)\cup(3,9) ≁ 2<x<9 ≁ (2,9)
x>1, x<3 ~ (1,3) ~ \{x \mid x>1, x<3\}
x\neq0 ~ \{x \mid x\in\mathbb{R},\ x\neq 0\} ~ (-\infty,0)\cup(0,\infty)
§ a choice may stand before its value
(C) ~ \textbf{(C)}\ 3\sqrt2 ~ C ≁ \textbf{(D)}\ 3\sqrt2
3\sqrt2 ~ \textbf{(C)}\ 3\sqrt2 ≁ \textbf{(C)}\ 2\sqrt2
§ colours, fonts and tombstones are styling
7 ~ \color{red}{7} ~ \textcolor{red}{7} ~ \underline{7} ~ \bf 7 ~ {\bf 7} ~ \rm 7
7 ~ \Large 7 ~ 7\checkmark ~ 7\,\blacksquare
1/3 ~ 0.\dot{3}
§ what a value is about may follow it
3/56 ~ 3/56, which is approximately 0.0536 ~ 3/56 (about 0.0536) ~ 3/56 ≈ 0.0536 ≁ 3/56 (about 0.06)
45 ~ 45, in total ~ 45 in total ≁ 45, at most ≁ 45, or 46
"""

RESPONSES = r"""
§ the last box is the answer
2 ~ \boxed{1} \boxed{2} ~ First \boxed{1}. Then it is \boxed{2}. ~ \boxed{\boxed{2}} ~ \boxed{x=\boxed{2}}
1 ≁ \boxed{1} \boxed{2}
1,2 ≁ \boxed{1} \boxed{2} ≁ First \boxed{1}. Then it is \boxed{2}.
§ boxes that a comma or a conjunction joins are one list
4,5 ~ \boxed{4}, \boxed{5} ~ $\boxed{4}$ and $\boxed{5}$ ~ \boxed{4} or \boxed{5}
5 ≁ \boxed{4}, \boxed{5} ≁ \boxed{4} and \boxed{5} ≁ \boxed{4} or \boxed{5} ≁ \boxed{4}, no, \boxed{5}
§ a box may lack its braces, but is not empty or open
7 ~ \boxed 7 ~ $\boxed7$ ~ \boxed {7} ~ \fbox{7} ≁ \boxed{7 ≁ \boxed{} ≁ \boxed{7}. \boxed{8
§ a box may hold a sentence, and signs may stand beside it
5 ~ \boxed{The answer is 5} ~ \boxed{\text{The answer is } 5} ~ \boxed{x \text{ is } 5} ~ \boxed{5.}
5 ~ \boxed{\text{approximately } 5} ~ \boxed{5,} ~ \boxed{\$5} ~ $$\boxed{5}$$ ~ \[ x = \boxed{5} \]
5 ~ The answer is $\boxed{5}$ cm ~ \boxed{5}\%
§ a choice in brackets may stand before its value
12 ~ \boxed{\textbf{(B)}\ 12} ~ \boxed{\text{(B) } 12} ≁ \boxed{B. 12}
§ the word \boxed in prose is no box
5 ~ In \boxed notation: \boxed{5} ~ \boxed{5} is in \boxed as asked. ~ \boxed{5}, in \boxed{} as asked.
§ an explicit last line wins over an earlier box
D ~ \boxed{⟨T⟩ ≪ ΔU}⏎⏎**Answer: D** ~ \boxed{5} … **Answer: D** ≁ \boxed{D}⏎Answer: A
5 ~ \boxed{5}⏎Answer: 5 apples
§ what is thought is no answer
5 ~ <think>\boxed{6}</think> \boxed{5} ~ \boxed{5}<think>hm \boxed{6} ~ <think>a</think><answer>5</answer>
5 ≁ <think>the answer is 5</think> ≁ <think>\boxed{5}</think> \boxed{6} ≁ <think>\boxed{5}
§ the last <answer> gives the answer, where there is no box
5 ~ <answer>5 ~ <answer>4</answer> <answer>5</answer> ≁ \boxed{4} then <answer>5</answer>
§ a last line with #### gives the answer, an earlier one with words is a heading
5 ~ #### 5 ~ blah⏎#### 5⏎ ≁ #### Step 5⏎The answer is 6
54 ~ #### 54⏎I hope this helps. ~ #### 54⏎⏎Let me know. ≁ #### Part 54⏎The answer is 6
6 ~ #### Step 5⏎The answer is 6
§ the last "answer is" or "answer:" gives the answer
5 ~ The answer is 5 apples. ~ The answer is **5**. ~ **Answer:** 5 ~ **Final Answer**⏎⏎5 ~ The answer is: 5
45 ~ The answer is 45, in total. ~ The answer is 45! ~ The answer is 45! I hope so. ≁ The answer is $45!$
3/56 ~ The answer is 3/56, which is approximately 0.0536. ~ The answer is 3/56 (about 0.0536).
5 ~ the answer is $5$ dollars ~ THE ANSWER IS 5 ~ ANSWER: 5 ~ Answer:5 ~ The answer is `5`
5 ~ The answer is "5" ~ So the answer is approximately 5. ~ The answer is \[⏎5⏎\] ≁ The answer is __5__
5 ~ I think the answer is 4. Wait, the answer is 5. ~ The final answer is 5. I hope it is correct.
5 ≁ I think the answer is 5. Wait, the answer is 4. ≁ The answer is $-5$.
1/2 ~ **Final Answer:** $\frac{1}{2}$ ~ The answer is:⏎⏎$$⏎\frac{1}{2}⏎$$⏎
-5 ~ The answer is -5 ~ The answer is - 5 ~ The answer is: -5 ~ The answer is –5
§ an announced answer is read like a boxed one
1234 ~ The answer is 1,234.
1,2 ~ The answer is 1,2. ~ The answers are 1 and 2.
(1,2) ~ The answer is (1, 2).
\{1,2\} ~ The answer is the set {1, 2}.
1:2 ~ The answer is $1:2$. ~ The ratio is 1 : 2
x^2+1 ~ The answer is x^2 + 1.
xy+1 ~ The answer is xy + 1
1 ≁ The answer is xy + 1
\sin x ~ The answer is sin x
\frac{\pi}{2} ~ The answer is pi/2.
\infty ~ The answer is infinity
\text{Evelyn} ~ The answer is Evelyn.
\text{no solution} ~ The answer is no solution
\text{(C)} ~ The answer is C. ~ Final answer: C ~ Answer: (C)
§ two answers to one question are none
5 ≁ The answer is 5 or 6. ≁ The answer is 5 and 6 ≁ The answer is $$5$$ or $$6$$ ≁ The answer is not 5
5 ≁ The answer is $x=5$ or $x=6$ ≁ He has 5 apples and 3 pears
§ a last sentence with "therefore" gives the answer
2/3 ~ Therefore, the probability is 2/3. ~ Thus $x=2/3$. ~ Hence the largest value is $\frac{2}{3}$.
§ a short reply is the answer
5 ~ **5** ~ 5. ~ $5$ ~ x is 5 ~ It is 5 ~ The number of apples is 5. ~ There are 5 apples. ~ 5% ~ about 5
3/4 ~ \frac{3}{4}\text{ of the total}
1,2 ~ x=1 and x=2 ~ The solutions are $x = 1$ and $x = 2$.
"""


def by_statement(table):
    """A test for each statement of a table, its cases (answer, other, the same?); ⏎ is a line break."""
    cases = {}
    for line in table.strip("\n").splitlines():
        if line.startswith("§ "):
            found = cases[line[2:]] = []
        else:
            answer, *others = line.replace("⏎", "\n").replace(" ≁ ", " ~ ≁").split(" ~ ")
            found += [(answer, other.lstrip("≁"), other[:1] != "≁") for other in others]
    return pytest.mark.parametrize("cases", cases.values(), ids=cases)


def seeds(few, many):
    """Few random cases in every run, many in the slow one."""
    slow = pytest.param(range(few, many), marks=pytest.mark.slow, id="many")
    return pytest.mark.parametrize("seeds", [pytest.param(range(few), id="few"), slow])


def box(text):
    return f"\\boxed{{{text}}}"


@by_statement(MATHEMATICS)
def test_mathematics(cases):
    for answer, other, same in cases:
        assert is_correct(box(other), answer) is same, (other, answer)
        assert is_correct(other, answer) is same, ("not in a box", other, answer)
        assert is_correct(box(answer), other) is same, ("the other way round", answer, other)


@by_statement(RESPONSES)
def test_responses(cases):
    for answer, response, correct in cases:
        assert is_correct(response, answer) is correct, (response, answer)


# --- Single statements -----------------------------------------------------------------------------------


def test_the_text_of_an_answer_is_extracted_as_it_is_written():
    assert extract_answer(r"so \boxed{\frac{1}{2}} and done") == r"\frac{1}{2}"
    assert extract_answer("<think>5</think> \n#### 7,000") == "7,000"
    assert extract_answer("The answer is 5 apples. I hope it is correct.") == "5 apples"
    assert extract_answer("no answer " * 100) is None and extract_answer("") is None


def test_an_answer_whose_end_is_cut_off_is_none():
    tail = " " * 5000 + " or 6"
    for response in ("The answer is 5{}", "<answer>5{}</answer>", "#### 5{}", "\\boxed{{5{}}}"):
        assert not is_correct(response.format(tail), "5")


def test_a_carriage_return_is_no_answer():
    assert not is_correct("\\boxed\r", "5") and is_correct("\\boxed \r 7", "7")


def test_a_long_response_needs_a_conclusion_in_its_last_sentence():
    assert is_correct("word " * 100 + "Therefore, the total is 12.", "12")
    assert not is_correct("word " * 100 + "Therefore 12. But then 13", "12")
    assert not is_correct("word " * 100 + " 12", "12")


def test_a_sum_may_have_sixty_terms_in_any_order():
    powers = [f"x^{{{k}}}" for k in range(2, 61)]
    assert is_correct(box("+".join(powers[::-1])), "+".join(powers))


def test_a_reference_that_cannot_be_compared_is_a_problem():
    for bad in (r"\frac{1}{2", "1/0", "0/0", "5=6", "", "))", r"\sum_{k=1}^n k", "9" * 5000, None):
        assert isinstance(reference_problem(bad), str), bad
    assert reference_problem(r"\frac{1}{2}") is None and reference_problem("east") is None


@pytest.mark.parametrize("wrong", [None, 5, b"5", ["5"]])
def test_what_is_no_text_is_no_answer(wrong):
    assert is_correct(wrong, "5") is False and is_correct("5", wrong) is False
    assert extract_answer(wrong) is None


def test_any_thread_may_check():
    results = []
    thread = threading.Thread(target=lambda: results.append(is_correct(r"\sqrt{\frac24}", "0.5^{1/2}")))
    thread.start()
    thread.join()
    assert results == [True]


def test_the_caller_keeps_its_decimal_context():
    with decimal.localcontext() as context:
        context.prec = 9
        assert is_correct(r"\sqrt2", "2^{1/2}") and decimal.getcontext().prec == 9


def test_the_checker_imports_no_engine_and_evaluates_no_code():
    files = (Path(__file__).resolve().parents[1] / "bridge_min" / "answer").glob("*.py")
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    assert names <= {
        "cmath",
        "collections.abc",
        "contextlib",
        "fractions",
        "functools",
        "itertools",
        "math",
    } | {"operator", "typing", "unicodedata"}
    calls = {getattr(node.func, "id", "") for node in nodes if isinstance(node, ast.Call)}
    assert not calls & {"eval", "exec", "compile", "__import__"}


# --- Random expressions and numbers ----------------------------------------------------------------------


def expression(rng, depth=3):
    """A random expression as (text, value at x, y), written so that it can stand inside another."""
    if depth == 0 or rng.random() < 0.2:
        if rng.random() < 0.5:
            return rng.choice([("x", lambda x, y: x), ("y", lambda x, y: y)])
        n = rng.randint(1, 30)
        return str(n), lambda x, y: Fraction(n)
    (s, f), (t, g) = expression(rng, depth - 1), expression(rng, depth - 1)
    return rng.choice(
        [
            (f"({s} + {t})", lambda x, y: f(x, y) + g(x, y)),
            (f"({s} - {t})", lambda x, y: f(x, y) - g(x, y)),
            (f"({s} * {t})", lambda x, y: f(x, y) * g(x, y)),
            (f"\\frac{{{s}}}{{{t} + 101}}", lambda x, y: f(x, y) / (g(x, y) + 101)),
            (f"({s})^{{2}}", lambda x, y: f(x, y) ** 2),
        ]
    )


STYLED = ("  {}  ", "${}$", "\\displaystyle {}", "\\left( {} \\right)", "\\mathbf{{{}}}")
REWRITTEN = (  # the same function
    "\\frac{{7 * {0}}}{{7}}", "4 + {0} - 4", "-(0 - {0})", "({0} + x) - x", "y + ({0} - y)",
    "\\frac{{1}}{{2}} * ({0}) + 0.5 * {0}", "{0} * (\\sin^2 x + \\cos^2 x)", "\\sqrt{{4}} * {0} / 2",
    "{0} * 10^{{-2}} * 100", "{0} * e^{{x}} * e^{{-x}}",
)  # fmt: skip


@seeds(4, 300)
def test_a_rewritten_expression_is_the_same_until_something_is_added(seeds):
    for seed in seeds:
        rng = random.Random(seed)
        text, _ = expression(rng)
        alike = [form.format(text) for form in (*STYLED, *REWRITTEN)]
        alike += [text.replace(" ", "  "), text.replace("frac", "tfrac"), text.replace("*", " \\cdot ")]
        for other in alike:
            assert is_correct(box(other), text), (other, text)
            assert is_correct(box(text), other), (text, other)
        changed = f"{rng.choice(alike)} + {rng.choice(('1', 'x', '0.001', 'y^2'))}"
        assert not is_correct(box(changed), text), (changed, text)


@seeds(20, 1000)
def test_two_random_expressions_are_the_same_exactly_where_their_values_are(seeds):
    points = [(Fraction(x, 7), Fraction(y, 9)) for x, y in ((3, 50), (-12, 18), (91, -1))]
    for seed in seeds:
        rng = random.Random(seed)
        depth = 1 + seed % 3
        (s, f), (t, g) = expression(rng, depth), expression(rng, depth)
        assert is_correct(box(s), t) is all(f(*point) == g(*point) for point in points), (s, t)


@seeds(6, 300)
def test_a_number_is_the_same_in_every_notation_and_in_no_other_value(seeds):
    for seed in seeds:
        rng = random.Random(seed)
        p, q = rng.randint(-999, 999), rng.choice([2, 4, 5, 8, 10, 16, 20, 25])  # 7 104/125 is 7104/125
        value = Fraction(p, q)
        percent = f"{value * 100}\\%" if value.denominator == 1 else f"{float(value * 100)!r}%"
        forms = [f"\\frac{{{p}}}{{{q}}}", f"{p / q:.7f}".rstrip("0"), f"{3 * p}/{3 * q}"]
        forms.append(f"{p * 1000}e-3/{q}")
        if value > 1 and value.denominator > 1:
            whole, part = value // 1, value % 1
            forms += [f"{whole}\\frac{{{part.numerator}}}{{{part.denominator}}}", f"{whole} {part}"]
        for a in forms:
            assert all(is_correct(box(a), b) for b in [*forms, percent]), (a, forms, percent)
        for wrong in (value + Fraction(1, 10**9), -value - 1, value * 10 + 1):
            assert not is_correct(box(wrong), f"{p}/{q}"), (wrong, p, q)


@seeds(3, 100)
def test_the_order_matters_in_a_tuple_and_all_members_in_a_list(seeds):
    for seed in seeds:
        first, *rest = items = [str(n) for n in random.Random(seed).sample(range(-50, 50), 4)]
        listed, shuffled, shorter = (", ".join(order) for order in (items, [*rest, first], rest))
        assert is_correct(box(shuffled), listed) and is_correct(box(f"\\{{{shuffled}\\}}"), listed)
        assert not is_correct(box(f"({shuffled})"), f"({listed})")
        assert not is_correct(box(shorter), listed) and not is_correct(box(listed), shorter)
        assert not any(is_correct(box(listed), item) for item in items)


# --- Labelled cases and gold answers ---------------------------------------------------------------------


def rows(name):
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").open(encoding="utf-8")]


@needs_data
def test_of_the_labelled_cases_one_in_a_hundred_is_wrong_one_accepted_falsely_and_no_hack():
    cases = rows("answer_cases")
    wrong = [case for case in cases if is_correct(case["response"], case["answer"]) != case["expect"]]
    accepted = [case for case in wrong if not case["expect"]]
    assert len(wrong) <= len(cases) // 100 and len(accepted) <= 1, wrong
    assert "hack" not in {case["kind"] for case in accepted}


def gold_answers():
    names = ("aime24", "amc23", "math500", "minerva_math", "olympiadbench", "gsm8k_test")
    return sorted({row["answer"] for name in names for row in rows(name)})


PROSE = "f(x)=a x+b$, where $b$ is an arbitrary integer, and $a$ is an arbitrary positive integer with "
PROSE += "$\\mho(a)=0"


@needs_data
def test_every_gold_answer_but_one_can_be_used():
    assert [gold for gold in gold_answers() if reference_problem(gold)] == [PROSE]


@needs_data
@pytest.mark.slow
def test_a_gold_answer_equals_itself_however_it_is_given():
    forms = ["{}", "\\boxed{{{}}}", "The final answer is ${}$. I hope it is correct."]
    forms += ["\\[\n\\boxed{{ {} }}\n\\]", "<think>\\boxed{{0}}</think><answer>{}</answer>"]
    for gold in {*gold_answers()} - {PROSE}:
        given = [form.format(gold) for form in forms] + [box(gold.replace("\\frac", "\\dfrac"))]
        if "\\left" not in gold and gold.count("(") == gold.count(")"):
            given.append(box(gold.replace("(", "\\left( ").replace(")", " \\right)")))
        assert [response for response in given if not is_correct(response, gold)] == []


@needs_data
@seeds(500, 20_000)
def test_two_different_gold_answers_differ(seeds):
    golds = gold_answers()
    pairs = [tuple(random.Random(seed).sample(golds, 2)) for seed in seeds]
    same = {pair for pair in pairs if is_correct(box(pair[0]), pair[1])}
    assert same <= {("4", "4^{\\circ}"), ("023", "23")}  # one number each


# --- Strings made to hurt --------------------------------------------------------------------------------

MEGABYTE = 1_000_000
HOSTILE = {
    "boxed digits": box("9" * MEGABYTE),
    "open boxes": "\\boxed{" * 100_000,
    "nested boxes": "\\boxed{" * 100_000 + "5" + "}" * 100_000,
    "parentheses": box("(" * 2000 + "1" + ")" * 2000),
    "fractions": box("\\frac{" * 500 + "1" + "}{2}" * 500),
    "roots": box("\\sqrt" * 600 + "2"),
    "carets": box("9^" * 1300 + "9"),
    "huge exponent": box("2^{" + "9" * 4000 + "}"),
    "factorials": box("+".join(["3000!"] * 600)),
    "factorial of factorials": box("9" + "!" * 3000),
    "powers": box("+".join(["7^9999"] * 500)),
    "sines": box("+".join(["\\sin x"] * 500)),
    "long list": box("1," * 2000 + "1"),
    "signs": box("\\pm1" * 100),
    "unions": box("\\cup".join(["(0,1)"] * 400)),
    "equations": box("=".join(["1"] * 2000)),
    "names": box("+".join(f"x_{{{k}}}" for k in range(400))),
    "matrices": box("\\begin{pmatrix}" * 100),
    "bars": box("|" * 4000),
    "fractions to a power": box("+".join(f"({p}/{p + 2})^{{4600}}" for p in range(101, 200, 2))),
    "open texts": "#### " + "\\text{" * 680,
    "units": box("5" + " cm" * 1300),
    "texts": box("\\text{" * 600 + "}" * 600),
    "claims": "the answer is " * 70_000,
    "tags": "<answer>" * 60_000 + "<think>" * 60_000 + "</think>" * 60_000,
    "controls": "".join(map(chr, range(32))) * 30_000,
    **{f"{mark!a} repeated": mark * MEGABYTE for mark in "9{$# \\\x00\U0001f600"},
    "surrogates": box("\ud800\udfff"),
    "every character": "".join(map(chr, range(0x10000))),
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_string_is_refused_without_an_error(text):
    assert not is_correct(text, "7")
    assert not is_correct(box("7"), text)
    assert is_correct(text, text) in (True, False)
    assert reference_problem(text) is None or isinstance(reference_problem(text), str)


def test_the_work_of_a_comparison_is_bounded():
    check = Check()
    assert check.value(read("3000!+3000!"), {}) > 0
    with pytest.raises(Unreadable, match="too much work"):
        check.value(read("+".join(["3000!"] * 200)), {})


PIECES = [
    *"0123456789abxyzeiXA+-*/^_(){}[]|!%=<>,.;:&$#\"'\\ \n½²√٣\x00\ud800",
    *str.split(r"\frac \sqrt \boxed{ \text{ \pi \sin \log \left( \right) \{ \} \pm \cup \\ ^{"),
    *str.split(r"\begin{pmatrix} \end{pmatrix} \overline{ </think> <answer> #### \infty \circ \in cm or and"),
    "the answer is ",
]


@seeds(800, 30_000)
def test_a_string_of_random_pieces_never_raises(seeds):
    for seed in seeds:
        rng = random.Random(seed)
        text = "".join(rng.choices(PIECES, k=rng.randint(0, 24)))
        assert is_correct(box(text), "5") in (True, False)
        assert is_correct(text, box(text)) in (True, False)
        assert reference_problem(text) is None or is_correct(box(text), text) in (True, False)
