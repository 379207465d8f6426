"""The answer checker: forms, refusals, gold answers, properties, hostile strings.

The tables below are the specification by example; `../shared/data` adds labelled cases and gold answers.
"""

import ast
import json
import random
import threading
from fractions import Fraction
from pathlib import Path

import pytest

from bridge_min import answer as module
from bridge_min.answer import extract_answer, is_correct, reference_problem

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent")


def rows(name):
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").open(encoding="utf-8")]


# Each line: what is written ~ the reference.  The two are the same mathematics, boxed or bare.
SAME = r"""
x^2>4  ~  (-\infty,-2)\cup(2,\infty)
x^2>4  ~  8<2x^2
(1,234)  ~  (1, 234)
x+y<3  ~  -x-y>-3
5.  ~  5
5.0  ~  5
+5  ~  5
05  ~  5
-5  ~  -5
−5  ~  -5
1,234  ~  1234
1{,}234  ~  1234
1\,234  ~  1234
1 234  ~  1234
1,234,567  ~  1234567
1\!,234  ~  1234
12\,345.5  ~  12345.5
.5  ~  1/2
0.5  ~  \frac12
-.5  ~  -1/2
50\%  ~  1/2
50\%  ~  50
50%  ~  0.5
50 percent  ~  50\%
0.5  ~  50\%
5%  ~  5 percent
12.5\%  ~  \frac18
2/4  ~  1/2
\frac{2}{4}  ~  \frac{1}{2}
\frac{-1}{2}  ~  -\frac12
-\frac{1}{-2}  ~  1/2
\frac{1}{\frac{1}{2}}  ~  2
1\frac12  ~  1.5
1 1/2  ~  3/2
-1\frac{1}{2}  ~  -3/2
2\frac{3}{4}  ~  \frac{11}{4}
1½  ~  1.5
¾  ~  0.75
6.02\times10^{23}  ~  6.02e23
6.02 x 10^23  ~  6.02e23
6.02 \cdot 10^{23}  ~  6.02e23
6.02×10²³  ~  6.02e23
1e3  ~  1000
1E-3  ~  0.001
10^{-3}  ~  0.001
10^-3  ~  1/1000
\$5  ~  5
$5  ~  5
\$5.00  ~  5
5 dollars  ~  \$5
5\text{ dollars}  ~  5
\$1,000  ~  1000
\text{USD } 5  ~  5
5\text{ cm}  ~  5
5 cm  ~  5
5\,\text{cm}^2  ~  5
5\text{ square inches}  ~  5
5\mathrm{  ~  m}  ~  5
5\ \mathrm{m/s}  ~  5
60 km/h  ~  60
60\text{ km/h}  ~  60
5 apples  ~  5
5 cups per man  ~  5
90^\circ  ~  90
90^{\circ}  ~  90
90°  ~  90
90 degrees  ~  90^\circ
90\degree  ~  90
\sin 30^\circ  ~  1/2
\sin(30°)  ~  \frac12
\cos 60^{\circ}  ~  0.5
2\cos 15^{\circ}  ~  \frac{\sqrt6+\sqrt2}{2}
\sqrt{2}  ~  2^{1/2}
\sqrt 2  ~  \sqrt{2}
√2  ~  \sqrt2
√(2)  ~  \sqrt2
sqrt(2)  ~  \sqrt2
sqrt 2  ~  \sqrt2
3√2  ~  3\sqrt2
\sqrt{8}  ~  2\sqrt{2}
\frac{1}{\sqrt2}  ~  \frac{\sqrt2}{2}
\sqrt[3]{8}  ~  2
\sqrt[3]{-8}  ~  -2
\sqrt[3]{2}  ~  2^{1/3}
\sqrt{3+2\sqrt2}  ~  1+\sqrt2
\sqrt{12}+\sqrt{27}  ~  5\sqrt3
(1+\sqrt5)/2  ~  \frac{\sqrt5+1}{2}
\frac{1}{1+\sqrt2}  ~  \sqrt2-1
\pi  ~  pi
2π  ~  2\pi
π/2  ~  \frac{\pi}{2}
\frac\pi2  ~  \pi/2
\frac{\pi}{2}  ~  0.5\pi
4\pi^2-1  ~  -1+4\pi^2
2^{10}  ~  1024
2^10  ~  1024
2**10  ~  1024
(-2)^3  ~  -8
-2^2  ~  -4
4^{-1}  ~  1/4
8^{2/3}  ~  4
5!  ~  120
3!!  ~  720
\frac{10!}{8!}  ~  90
\binom{5}{2}  ~  10
\dbinom{5}{2}  ~  10
\binom52  ~  10
|{-5}|  ~  5
\left|-5\right|  ~  5
|-5|+|3|  ~  8
\lvert -5 \rvert  ~  5
\lfloor 3.7 \rfloor  ~  3
\lceil 3.2\rceil  ~  4
⌊3.7⌋  ~  3
\lfloor\sqrt{9}\rfloor  ~  3
\log_2 8  ~  3
\log_{2}{8}  ~  3
\log_2(8)  ~  3
\log_{10} 100  ~  2
\ln e^2  ~  2
\ln(e)  ~  1
\ln 2  ~  \log_e 2
\ln 8  ~  3\ln 2
\frac{\log 8}{\log 2}  ~  3
e^{\ln 3}  ~  3
\exp(2)  ~  e^2
\tan\frac{\pi}{4}  ~  1
\sin\frac{\pi}{6}  ~  \frac12
\arctan 1  ~  \frac{\pi}{4}
\sin^{-1}(1)  ~  \frac{\pi}{2}
\arcsin 1  ~  \pi/2
\sin^2 x  ~  1-\cos^2 x
\sin 2x  ~  2\sin x\cos x
\cos 2x  ~  2\cos^2 x-1
\tan x  ~  \frac{\sin x}{\cos x}
\cot x  ~  \frac{1}{\tan x}
0.\overline{3}  ~  1/3
0.\overline{142857}  ~  1/7
0.8\overline{4}  ~  \frac{38}{45}
0.\bar{3}  ~  1/3
1.\overline{6}  ~  \frac53
52_8  ~  52_{8}
101_2  ~  101_{2}
0101_2  ~  101_2
24_{10}  ~  24
152A_{11}  ~  152A_{11}
1101_{4}  ~  1101_4
x²+1  ~  x^2+1
x₁+x₂  ~  x_1+x_2
2x  ~  2*x
x(x+1)  ~  x^2+x
(x+1)(x-1)  ~  x^2-1
x^2-1  ~  (x-1)(x+1)
\frac{x^2-1}{x-1}  ~  x+1
\frac{x}{y}  ~  x/y
x y  ~  y x
2xy  ~  2yx
a_1+a_2  ~  a_2+a_1
x_{10}  ~  x_{10}
C_1 e^t  ~  C_{1}e^{t}
\alpha\beta  ~  \beta\alpha
α+β  ~  \alpha+\beta
e^{2x}  ~  (e^x)^2
2^{n+1}  ~  2\cdot2^n
\sqrt{x^2}  ~  |x|
x^{1/2}  ~  \sqrt{x}
\sqrt{x-2}  ~  (x-2)^{1/2}
\ln x^2  ~  2\ln|x|
\frac{n!}{(n-1)!}  ~  n
\frac{n(n-1)}{2}  ~  \binom{n}{2}
\frac{(2n)!}{n!n!}  ~  \binom{2n}{n}
x=5  ~  5
5  ~  x=5
x = 5  ~  x=5
5 = x  ~  x=5
x=5  ~  5=x
f(2)=10  ~  10
x_1=10  ~  10
f(x)=x+1  ~  x+1
f(x)=x+1  ~  f(x)=1+x
y=2x+1  ~  2x-y+1=0
y=2x+1  ~  y-2x=1
x+y=1  ~  2x+2y=2
2+4=6  ~  6
1+1=2=2  ~  2
x=2+3=5  ~  5
x^2+y^2=4  ~  y^2=4-x^2
AB=5  ~  5
AB = 5  ~  5
\angle ABC = 60^\circ  ~  60
\overline{AB}=5  ~  5
P(A)=\frac12  ~  1/2
\frac{AB}{CD}=2  ~  2
\frac{dy}{dx}=2x  ~  2x
S = \pi r^2  ~  \pi r^2
y=f(x)=x^2  ~  x^2
x \approx 3.14  ~  3.14
x>3  ~  (3,\infty)
x > 3  ~  (3, \infty)
x≥3  ~  [3,\infty)
x\ge3  ~  3\le x
3<x\le5  ~  (3,5]
5\ge x>3  ~  (3,5]
x<1 or x>3  ~  (-\infty,1)\cup(3,\infty)
x<1 \text{ or } x>3  ~  (-\infty,1)\cup(3,\infty)
2x>6  ~  x>3
-2x<6  ~  x>-3
x\neq3  ~  (-\infty,3)\cup(3,\infty)
\mathbb{R}\setminus\{3\}  ~  x\ne3
(-\infty,\infty)  ~  \mathbb{R}
(-\infty, \infty)  ~  (-\infty,+\infty)
(0,1)\cup(1,2)  ~  (0,2)\setminus\{1\}
[0,1]\cup[1,2]  ~  [0,2]
(1,2)\cup(3,4)  ~  (3,4)\cup(1,2)
[1,3]\cap[2,4]  ~  [2,3]
(0,1) U (2,3)  ~  (0,1)\cup(2,3)
x\in(0,1)  ~  (0,1)
x \in [0,1)  ~  0\le x<1
(1,2)  ~  (1, 2)
(1,2)  ~  \left(1,2\right)
\left[0,1\right)  ~  [0,1)
(0.5,1)  ~  (\frac12,1)
(1,2,3)  ~  (1, 2, 3)
(x,y)=(1,2)  ~  (1,2)
(1,2)  ~  (x,y)=(1,2)
x=1,y=2  ~  (1,2)
x=1, y=2  ~  y=2,x=1
x=1 \text{ and } y=2  ~  (1,2)
\langle 1,2\rangle  ~  (1,2)
\begin{pmatrix}1\\2\end{pmatrix}  ~  (1,2)
\{1,2\}  ~  \{2,1\}
\{1,2\}  ~  1,2
1,2  ~  2,1
1, 2  ~  2 and 1
1 and 2  ~  1,2
1 \text{ and } 2  ~  \{1,2\}
1 \text{ or } 2  ~  1,2
x=1 or x=2  ~  1,2
x=1, 2  ~  1,2
x=1,x=2  ~  x=2,x=1
1, 2, and 3  ~  1,2,3
\{1\}  ~  1
\pm 5  ~  5,-5
±5  ~  -5,5
x=\pm5  ~  \pm5
1\pm\sqrt2  ~  1+\sqrt2,1-\sqrt2
\{\pm1,\pm2\}  ~  -2,-1,1,2
\frac{1\pm\sqrt5}{2}  ~  \frac{1+\sqrt5}{2},\frac{1-\sqrt5}{2}
(1,2),(3,4)  ~  (3,4),(1,2)
(1,2) and (3,4)  ~  (1,2),(3,4)
(1,2);(3,4)  ~  (1,2),(3,4)
\emptyset  ~  \varnothing
\emptyset  ~  \{\}
∅  ~  \emptyset
\begin{pmatrix}1&2\\3&4\end{pmatrix}  ~  \begin{bmatrix}1&2\\3&4\end{bmatrix}
\begin{pmatrix}0.5\\1\end{pmatrix}  ~  \begin{pmatrix}1/2\\1\end{pmatrix}
\frac12\begin{pmatrix}1\\2\end{pmatrix}  ~  \begin{pmatrix}1/2\\1\end{pmatrix}
\left(\begin{array}{cc}1&2\\3&4\end{array}\right)  ~  \begin{pmatrix}1&2\\3&4\end{pmatrix}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \\ \end{pmatrix}  ~  \begin{pmatrix}1&2\\3&4\end{pmatrix}
1:2  ~  2:4
1:2  ~  1/2
3 : 5  ~  3:5
1:2:3  ~  1:2:3
9:24  ~  9:24
5:00 p.m.  ~  5:00\text{ PM}
4:51:06  ~  4\!:\!51\!:\!06
(B)  ~  B
\text{(B)}  ~  B
B  ~  \text{(B)}
\textbf{(B)}  ~  B
\mathrm{B}  ~  B
option B  ~  B
east  ~  \text{east}
East  ~  \text{east}
\text{Evelyn}  ~  Evelyn
\text{ Evelyn }  ~  Evelyn
\text{yes}  ~  Yes
\mathrm{even}  ~  even
\text{odd}  ~  odd
A, C  ~  \text{C, A}
\text{A and C}  ~  A,C
Bob  ~  \text{Bob}
no solution  ~  \text{no solution}
\text{neither}  ~  neither
-2+7i  ~  7i-2
(1+i)^2  ~  2i
i^2  ~  -1
\sqrt{-4}  ~  2i
e^{i\pi}  ~  -1
\frac{1}{i}  ~  -i
|3+4i|  ~  5
\frac{1+i}{1-i}  ~  i
1+2i  ~  2i+1
\mathrm{e}^{2}  ~  e^2
2\mathrm{i}  ~  2i
\infty  ~  +\infty
-\infty  ~  -∞
inf  ~  \infty
\displaystyle\frac12  ~  1/2
\boxed{5}  ~  5
\fbox{5}  ~  5
\left(\frac12\right)  ~  1/2
{5}  ~  5
((5))  ~  5
5\quad  ~  5
5\,  ~  5
\,5\;  ~  5
\mathbf{5}  ~  5
\textbf{5}  ~  5
\text{5}  ~  5
\text{5 cm}  ~  5
$5$  ~  5
\(5\)  ~  5
\[5\]  ~  5
5\text{ million}  ~  5000000
2.5 million  ~  2500000
3 dozen  ~  36
1.2 billion  ~  1.2\times10^9
\frac{1}{3}\text{ hour}  ~  1/3
\frac{n(n+1)}{2}  ~  \frac{n^2+n}{2}
\frac{\sin x}{x}  ~  x^{-1}\sin x
\frac{x+1}{x(x+1)}  ~  \frac1x
1-\frac{1}{n+1}  ~  \frac{n}{n+1}
\frac{100!}{99!}  ~  100
\frac{1}{2004!}  ~  \frac{2005}{2005!}
3^{2007}  ~  9\cdot3^{2005}
2^{1009}  ~  2\cdot2^{1008}
\frac{4 \cdot 999^{4}}{27}  ~  148\cdot 999^4/999
x^{-1}  ~  1/x
x^{\frac12}  ~  \sqrt x
\lceil n / 2\rceil  ~  \lceil \frac{n}{2}\rceil
\vec{v}_1  ~  v_1
\begin{aligned} x&=5\end{aligned}  ~  5
\begin{align*} x&=1\\ y&=2\end{align*}  ~  (1,2)
2\times 3  ~  6
2·3  ~  6
6÷2  ~  3
7 - 2  ~  5
10 - 3 \cdot 2  ~  4
(2)(3)  ~  6
2(3)  ~  6
(1,\pm2)  ~  (1,2),(1,-2)
\{x|x>2\}  ~  (2,\infty)
\{x \mid 1<x\le3\}  ~  (1,3]
\cos\theta=\frac12  ~  1/2
\{x : x=5\}  ~  5
x_{\max}=5  ~  5
2<x<3  ~  (2,3)
€5  ~  5
\text{5 p.m.}  ~  5\text{ PM}
60\text{ miles per hour}  ~  60\text{ mph}
x^{40}+x^{39}+x^{38}+x^{37}  ~  x^{37}(x^3+x^2+x+1)
\frac{1}{2}+\frac{1}{3}  ~  5/6
1/2/2  ~  1/4
3\frac{1}{3}\%  ~  \frac{1}{30}
\$0.50  ~  0.5
5\text{ cents}  ~  5
\text{5 p.m.}  ~  5\text{ pm}
x^{10}  ~  x^10
\log_{3}{x}  ~  \frac{\ln x}{\ln 3}
-(x-1)  ~  1-x
\frac{-(x-1)}{2}  ~  \frac{1-x}{2}
"""

# Each line: two answers that are not the same, in either direction.
DIFFERENT = r"""
x^2>4  ~  x^2>4.0001
x^2<4.0001  ~  (-2,2)
5+f(0)  ~  5
(1,234)  ~  (1234)
x+y<3  ~  -x-y<-3
5  ~  6
5  ~  -5
5=6  ~  6
5=6  ~  5
2x=10  ~  10
2x=10  ~  5
x=5=6  ~  6
x+1=6  ~  6
3<4  ~  4
1,2  ~  1
1,2  ~  2
1,2  ~  12
1 or 2  ~  2
1 \text{ or } 2  ~  1
\{1,2\}  ~  1
\{1,2\}  ~  (1,2)
(1,2)  ~  (2,1)
(1,2)  ~  [1,2]
(1,2)  ~  [1,2)
[1,2)  ~  (1,2]
(1,2)  ~  1,2
(1,2)  ~  12
\pm5  ~  5
5  ~  \pm5
\pm5  ~  5,5
1,2,3  ~  1,2
1,1  ~  1
1,2  ~  1,2,2
0/0  ~  0
1/0  ~  \infty
\frac{0}{0}  ~  \frac{0}{0}
\frac10  ~  \frac10
0^0  ~  1
\ln 0  ~  -\infty
52_8  ~  52
52  ~  52_8
52_8  ~  52_9
42  ~  52_8
2  ~  52_2
4.5e33  ~  4.5\cdot e\cdot33
1.234  ~  1234
12.34  ~  1234
1,23  ~  123
1 23  ~  123
12,345  ~  12345.6
1,2,3,4,5  ~  5
1/2  ~  0.50001
0.33  ~  1/3
0.333333333333  ~  1/3
3.14  ~  \pi
3.14159265358979  ~  \pi
\frac{22}{7}  ~  \pi
1.414  ~  \sqrt2
\sqrt2  ~  \sqrt3
\sqrt{2}+10^{30}  ~  \sqrt{3}+10^{30}
2^{100}  ~  2^{101}
2^{1009}  ~  2^{1010}
\frac{1}{2005!}  ~  \frac{1}{2004!}
\frac{\pi}{2005!}  ~  \frac{\pi}{2004!}
10^{-10}  ~  10^{-9}
10^{-10}  ~  0
10^{-40}\pi  ~  0
e^{-1000}  ~  e^{-1001}
e^{-1000}  ~  0
x  ~  y
x+1  ~  x
x^2  ~  x
|x|  ~  x
\sqrt{x^2}  ~  x
x_1  ~  x_2
x_1  ~  x
a+b  ~  a-b
ab  ~  a+b
(a+5)(b+2)  ~  (a+5)(b+3)
x^2+2x  ~  x^2+2x+1
2x  ~  2
2k  ~  2
2  ~  2k
5k  ~  5
y=2x+1  ~  y=2x+2
y=2x  ~  x=2y
x=5  ~  y=5
x=5  ~  x=6
x+y=1  ~  x+y=2
x=3  ~  3x=3
7  ~  7=11a+c
0  ~  a+3z=0
x>3  ~  x\ge3
x>3  ~  x<3
x>3  ~  [3,\infty)
x>3  ~  y>3
3<x<5  ~  (3,5]
x<1 and x>3  ~  (-\infty,1)\cup(3,\infty)
-2x<6  ~  x<-3
[0,1)\cup(1,2]  ~  [0,2]
(-\infty,2)\cup(3,\infty)  ~  (-\infty,2]\cup(3,\infty)
(0,1)  ~  (0,2)
x=1,y=2  ~  (2,1)
x=1,y=2  ~  x=2,y=1
x=1,y=2  ~  1
(1,2),(3,4)  ~  (1,2),(4,3)
(1,2),(3,4)  ~  1,2,3,4
\begin{pmatrix}1&2\\3&4\end{pmatrix}  ~  \begin{pmatrix}1&3\\2&4\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix}  ~  \begin{pmatrix}1&2\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix}  ~  2
1:2  ~  2:1
1:2  ~  1:3
1:20  ~  2:40
9:24  ~  9:25
5:00 a.m.  ~  5:00 p.m.
A  ~  B
B  ~  b2
(A)  ~  (B)
AB  ~  A
\text{ACF}  ~  \text{AC}
\text{odd or even}  ~  even
\text{not east}  ~  east
not 5  ~  5
at least 5  ~  5
less than 5  ~  5
at most 5  ~  5
either 5  ~  5
half 5  ~  5
5 cm  ~  5 m
5\text{ cents}  ~  \$5
5\text{ hours}  ~  5\text{ minutes}
5 or 6  ~  5
X  ~  Y
seat  ~  \text{east}
\text{east}  ~  \text{west}
2i  ~  2
1+2i  ~  1-2i
i  ~  1
i  ~  -1
\infty  ~  -\infty
5!  ~  5
5!  ~  121
\frac12  ~  \frac13
\frac{1}{2}  ~  2
12  ~  \frac12
1\frac12  ~  \frac12
2\frac12  ~  1
0.\overline{3}  ~  0.3
0.3\overline{4}  ~  0.\overline{34}
90°  ~  \frac{\pi}{3}
\sin 30  ~  \frac12
\cos x  ~  \sin x
\tan x  ~  \frac{\cos x}{\sin x}
\sin x  ~  x
\ln x  ~  \log_{10} x
\log_2 8  ~  8
2\ln x  ~  \ln x^3
x^2  ~  |x|^2+0.001
28\%  ~  2800
28\%  ~  2.8
28\%  ~  0.28\%
1{,}234  ~  1.234
5 million  ~  5
AZYUK2  ~  2
Room2  ~  2
abc2  ~  2
5x3  ~  53
2 3  ~  6
2 3  ~  23
1 2  ~  12
x2  ~  2x
--  ~  5
5 5  ~  5
|x|=5  ~  5
\text{square root of }5  ~  5
5 squared  ~  5
5 \text{ is wrong}  ~  5
\log_2 x=5  ~  5
5 \cup 6  ~  5
0.333...  ~  1/3
x^2 \text{ for all } x  ~  x^3
\{x|x>2\}  ~  [2,\infty)
\frac{n!}{(n-1)!}  ~  n+1
5,5  ~  5
()  ~  5
\{\}  ~  0
\text{}  ~  5
?  ~  5
5?  ~  5
  ~  5
\boxed{}  ~  5
\dots  ~  5
1,2,\dots  ~  1,2
\{1,2,\dots,100\}  ~  37
\sum n  ~  5
\int x  ~  x
9^{9^{9^{9}}}  ~  9
10000000!  ~  5
\frac{5  ~  5
(5  ~  5
[5  ~  5
{5  ~  5
٥  ~  5
５  ~  5
五  ~  5
²  ~  2
5²  ~  52
1٫5  ~  1.5
"""

# Where the answer is, and which words may stand around it: response, reference, correct.
FOUND = [
    ('\\boxed\r', '5', False),
    ('\\boxed \r 7', '7', True),
    ('The answer is 5 apples.', '5', True),
    ('The answer is **5**.', '5', True),
    ('**5**', '5', True),
    ('**Answer:** 5', '5', True),
    ('**Final Answer**\n\n5', '5', True),
    ('**Final Answer:** $\\frac{1}{2}$', '1/2', True),
    ('Answer: (B) ', 'B', True),
    ('The answer is: 5', '5', True),
    ('the answer is $5$ dollars', '5', True),
    ('So the answer is approximately 5.', '5', True),
    ('The final answer is 5. I hope it is correct.', '5', True),
    ('The answer is 5 or 6.', '5', False),
    ('The answer is not 5', '5', False),
    ('The answer is 5 and 6', '5', False),
    ('I think the answer is 4. Wait, the answer is 5.', '5', True),
    ('I think the answer is 5. Wait, the answer is 4.', '5', False),
    ('<think>the answer is 5</think>', '5', False),
    ('<think>\\boxed{5}</think> \\boxed{6}', '5', False),
    ('<think>\\boxed{6}</think> \\boxed{5}', '5', True),
    ('<think>\\boxed{5}', '5', False),
    ('\\boxed{5}<think>hm \\boxed{6}', '5', True),
    ('<think>a</think><answer>5</answer>', '5', True),
    ('<answer>5', '5', True),
    ('<answer>4</answer> <answer>5</answer>', '5', True),
    ('\\boxed{4} then <answer>5</answer>', '5', False),
    ('#### 5', '5', True),
    ('blah\n#### 5\n', '5', True),
    ('#### Step 5\nThe answer is 6', '5', False),
    ('#### Step 5\nThe answer is 6', '6', True),
    ('\\boxed{4}, no, \\boxed{5}', '5', False),
    ('\\boxed{4} and \\boxed{5}', '5', False),
    ('\\boxed{4} or \\boxed{5}', '5', False),
    ('\\boxed{4}, \\boxed{5}', '4,5', True),
    ('$\\boxed{4}$ and $\\boxed{5}$', '4,5', True),
    ('First \\boxed{2}. Then it is \\boxed{3}.', '3', True),
    ('First \\boxed{2}. Then it is \\boxed{3}.', '2,3', False),
    ('\\boxed{\\boxed{5}}', '5', True),
    ('\\boxed{x=\\boxed{5}}', '5', True),
    ('\\boxed 7', '7', True),
    ('$\\boxed7$', '7', True),
    ('\\boxed {7}', '7', True),
    ('\\fbox{7}', '7', True),
    ('\\boxed{7', '7', False),
    ('\\boxed{5}. \\boxed{7', '5', False),
    ('\\boxed{}', '5', False),
    ('\\boxed{5.}', '5', True),
    ('\\boxed{5,}', '5', True),
    ('\\boxed{\\$5}', '5', True),
    ('\\boxed{5\\%}', '0.05', True),
    ('\\boxed{5}\\%', '5%', True),
    ('$$\\boxed{5}$$', '5', True),
    ('\\[ x = \\boxed{5} \\]', '5', True),
    ('5', '5', True),
    ('5.', '5', True),
    ('$5$', '5', True),
    ('x = 5', '5', True),
    ('x is 5', '5', True),
    ('It is 5', '5', True),
    ('The number of apples is 5.', '5', True),
    ('There are 5 apples.', '5', True),
    ('He has 5 apples and 3 pears', '5', False),
    ('Therefore, the probability is 2/3.', '2/3', True),
    ('Thus $x=5$.', '5', True),
    ('Hence the largest value is $\\frac{3}{4}$.', '3/4', True),
    ('The answer is $\\boxed{5}$ cm', '5', True),
    ('The answer is:\n\n$$\n\\frac{1}{2}\n$$\n', '1/2', True),
    ('The answer is \\[\n5\n\\]', '5', True),
    ('The answer is $$5$$ or $$6$$', '5', False),
    ('The answer is 1,234.', '1234', True),
    ('The answer is 1,2.', '1,2', True),
    ('The answer is (1, 2).', '(1,2)', True),
    ('The answer is x^2 + 1.', 'x^2+1', True),
    ('The answer is xy + 1', '1', False),
    ('The answer is xy + 1', 'xy+1', True),
    ('The answer is sin x', '\\sin x', True),
    ('The answer is pi/2.', '\\frac{\\pi}{2}', True),
    ('The answer is infinity', '\\infty', True),
    ('The answer is Evelyn.', '\\text{Evelyn}', True),
    ('The answer is east.', '\\text{east}', True),
    ('The answer is no solution', '\\text{no solution}', True),
    ('Final answer: C', '\\text{(C)}', True),
    ('The answer is C.', '\\text{(C)}', True),
    ('The answer is the set {1, 2}.', '\\{1,2\\}', True),
    ('The answer is $1:2$.', '1:2', True),
    ('The ratio is 1 : 2', '1:2', True),
    ('The answers are 1 and 2.', '1,2', True),
    ('x=1 and x=2', '1,2', True),
    ('The solutions are $x = 1$ and $x = 2$.', '1,2', True),
    ('The answer is $x=1$ or $x=2$', '1', False),
    ('The answer is -5', '-5', True),
    ('The answer is - 5', '-5', True),
    ('The answer is: -5', '-5', True),
    ('The answer is –5', '-5', True),
    ('The answer is $-5$.', '5', False),
    ('THE ANSWER IS 5', '5', True),
    ('ANSWER: 5', '5', True),
    ('Answer:5', '5', True),
    ('The answer is `5`', '5', True),
    ('The answer is "5"', '5', True),
    ('The answer is __5__', '5', False),
    ('5 apples', '5', True),
    ('$5', '5', True),
    ('5%', '5', True),
    ('about 5', '5', True),
    ('\\boxed{The answer is 5}', '5', True),
    ('\\boxed{\\text{The answer is } 5}', '5', True),
    ('\\boxed{x \\text{ is } 5}', '5', True),
    ('\\boxed{\\text{approximately } 5}', '5', True),
    ('\\boxed{\\approx 5}', '5', True),
    ('\\boxed{=5}', '5', True),
    ('\\boxed{Area = 5}', '5', True),
    ('\\boxed{\\text{Area} = 5}', '5', True),
    ('\\boxed{\\text{Area of triangle } ABC = 5}', '5', True),
    ('\\boxed{n = 5 \\text{ apples}}', '5', True),
    ('\\boxed{5 \\text{ and not } 6}', '5', False),
    ('\\boxed{\\textbf{(B)}\\ 12}', '12', True),
    ('\\boxed{\\text{(B) } 12}', '12', True),
    ('\\boxed{B. 12}', '12', False),
    ('\\boxed{1000000}', '10^6', True),
    ('\\boxed{2,\\,3}', '2,3', True),
    ('\\boxed{(2,\\;3)}', '(2,3)', True),
    ('\\boxed{x=2,\\ y=3}', '(2,3)', True),
    ('\\boxed{\\frac{3}{4}\\text{ of the total}}', '3/4', True),
    ('\\boxed{5 \\text{ (five)}}', '5', True),
    ('\\boxed{\\sqrt{2} \\approx 1.414}', '\\sqrt2', True),
    ('\\boxed{x = \\sqrt{2} \\approx 1.414}', '\\sqrt2', True),
    ('\\boxed{\\sqrt{2} \\approx 1.9}', '\\sqrt2', False),
    ('\\boxed{5:1}', '5', True),
    ('\\boxed{f(x) = x^2 \\text{ for all } x}', 'f(x)=x^2', False),
    ('\\boxed{x = k\\pi, k \\in \\mathbb{Z}}', 'x=k\\pi,k\\in\\mathbb{Z}', True),
    ('\\boxed{(-\\infty, 2) \\text{ and } (3,\\infty)}', '(-\\infty,2)\\cup(3,\\infty)', False),
    ('\\boxed{y = 3 x + 2}', '3x+2', True),
    ('\\boxed{3x+2}', 'y=3x+2', True),
    ('\\boxed{3x+2=y}', 'y=3x+2', True),
    ('\\boxed{m\\angle A = 60^\\circ}', '60', True),
    ('\\boxed{\\triangle ABC}', '\\triangle ABC', True),
    ('\\boxed{\\text{5 cm}^2}', '5', True),
    ('\\boxed{5 \\text{cm}^{2}}', '5', True),
    ('\\boxed{5\\ \\mathrm{cm}^{-1}}', '5', True),
    ('\\boxed{5 \\text{ m}/\\text{s}}', '5', True),
    ('\\boxed{5\\frac{\\text{m}}{\\text{s}}}', '5', True),
    ('\\boxed{3.0 \\times 10^8 \\text{ m/s}}', '3e8', True),
    ('\\boxed{3.0\\times10^{8}\\,\\mathrm{m\\,s^{-1}}}', '3e8', True),
]  # fmt: skip


def table(text):
    return [tuple(part.strip(" ") for part in line.rsplit("~", 1)) for line in text.strip("\n").splitlines()]


@pytest.mark.parametrize("written, reference", table(SAME))
def test_same(written, reference):
    assert is_correct(f"\\boxed{{{written}}}", reference)
    assert is_correct(written, reference)
    assert is_correct(f"\\boxed{{{reference}}}", written), "not symmetric"


@pytest.mark.parametrize("written, reference", table(DIFFERENT))
def test_different(written, reference):
    assert not is_correct(f"\\boxed{{{written}}}", reference)
    assert not is_correct(written, reference)
    assert not is_correct(f"\\boxed{{{reference}}}", written)


@pytest.mark.parametrize("response, reference, correct", FOUND)
def test_found(response, reference, correct):
    assert is_correct(response, reference) is correct


def test_the_last_of_two_boxes_is_the_answer():
    assert is_correct(r"\boxed{1} \boxed{2}", "2")
    assert not is_correct(r"\boxed{1} \boxed{2}", "1") and not is_correct(r"\boxed{1} \boxed{2}", "1, 2")
    assert is_correct(r"\boxed{1}, \boxed{2}", "1, 2") and not is_correct(r"\boxed{1}, \boxed{2}", "2")


def test_what_is_cut_off_is_no_answer():
    pad = " " * 5000
    for response in (f"The answer is 5{pad} or 6", f"<answer>5{pad} or 6</answer>", f"#### 5{pad} or 6"):
        assert not is_correct(response, "5")
    assert not is_correct("\\boxed{5" + pad + " or 6}", "5")


def test_long_sums():
    powers = [f"x^{{{k}}}" for k in range(2, 61)]
    assert is_correct("\\boxed{" + "+".join(powers[::-1]) + "}", "+".join(powers))


def test_long_responses_end_in_a_conclusion():
    assert is_correct("word " * 100 + "Therefore, the total is 12.", "12")
    assert not is_correct("word " * 100 + "Therefore 12. But then 13", "12")
    assert not is_correct("word " * 100 + " 12", "12")


def test_extract_answer():
    assert extract_answer(r"so \boxed{\frac{1}{2}} and done") == r"\frac{1}{2}"
    assert extract_answer("<think>5</think> \n#### 7,000") == "7,000"
    assert extract_answer("The answer is 5 apples. I hope it is correct.") == "5 apples"
    assert extract_answer("no answer " * 100) is None
    assert extract_answer("") is None and extract_answer(None) is None


def test_relative_tolerance_is_for_constants():
    assert is_correct("6.7e-34", "6.6e-34", rel_tol=0.05) and not is_correct("6.7e-34", "6.6e-34")
    assert is_correct(r"\boxed{\pi}", "3.14", rel_tol=0.01) and not is_correct(r"\boxed{\pi}", "3.14")
    assert not is_correct(r"\boxed{1.01x}", "x", rel_tol=0.05)
    assert not is_correct(r"\boxed{7}", "6", rel_tol=0.05)


def test_reference_problem():
    assert reference_problem(r"\frac{1}{2}") is None and reference_problem("east") is None
    for bad in (r"\frac{1}{2", "1/0", "0/0", "5=6", "", "))", r"\sum_{k=1}^n k", "9" * 5000):
        assert isinstance(reference_problem(bad), str), bad
    assert isinstance(reference_problem(None), str)


# --- The data --------------------------------------------------------------------------------------------


@needs_data
def test_labelled_cases():
    wrong, accepted = [], []
    for k, case in enumerate(cases := rows("answer_cases")):
        got = is_correct(case["response"], case["answer"])
        if got != case["expect"]:
            wrong.append((k, case["kind"], case["answer"]))
            accepted += [k] if got else []
    assert len(wrong) <= len(cases) // 100, wrong
    assert len(accepted) <= 1, accepted


@needs_data
def test_reward_hacks_are_refused():
    hacks = [case for case in rows("answer_cases") if case["kind"] == "hack"]
    assert hacks and not any(is_correct(case["response"], case["answer"]) for case in hacks)


def rewritings(gold):
    yield gold
    yield f"\\boxed{{{gold}}}"
    yield f"The final answer is ${gold}$. I hope it is correct."
    yield f"\\[\n\\boxed{{ {gold} }}\n\\]"
    yield "\\boxed{" + gold.replace("\\frac", "\\dfrac") + "}"
    if "\\left" not in gold and gold.count("(") == gold.count(")"):
        yield "\\boxed{" + gold.replace("(", "\\left( ").replace(")", " \\right)") + "}"
    yield f"<think>\\boxed{{0}}</think><answer>{gold}</answer>"


@needs_data
@pytest.mark.parametrize(
    "name", ["math500", "aime24", "amc23", "minerva_math", "olympiadbench", "gsm8k_test"]
)
def test_gold_answers_equal_themselves(name):
    for gold in sorted({row["answer"] for row in rows(name)}):
        assert reference_problem(gold) is None, gold
        for written in rewritings(gold):
            assert is_correct(written, gold), written


@needs_data
def test_different_gold_answers_differ():
    names = ("math500", "aime24", "amc23", "minerva_math", "olympiadbench", "gsm8k_test")
    golds = sorted({row["answer"] for name in names for row in rows(name)})
    rng = random.Random(7)
    equal = []
    for _ in range(5000):
        a, b = rng.sample(golds, 2)
        if is_correct(f"\\boxed{{{a}}}", b):
            equal.append((a, b))
    assert equal == []


# --- Properties ------------------------------------------------------------------------------------------

STYLES = (
    lambda s: s.replace(" ", "  "),
    lambda s: f" {s} ",
    lambda s: f"${s}$",
    lambda s: f"\\displaystyle {s}",
    lambda s: f"\\left( {s} \\right)",
    lambda s: f"\\mathbf{{{s}}}",
    lambda s: s.replace("frac", "tfrac"),
    lambda s: s.replace("*", " \\cdot "),
)


def expression(rng, depth):
    """A random expression as (text, value at x, y), written so that it can stand inside another."""
    if depth == 0 or rng.random() < 0.2:
        if rng.random() < 0.5:
            return rng.choice([("x", lambda x, y: x), ("y", lambda x, y: y)])
        n = rng.randint(1, 30)
        return str(n), lambda x, y: Fraction(n)
    (s, f), (t, g) = expression(rng, depth - 1), expression(rng, depth - 1)
    kind = rng.randrange(5)
    if kind == 0:
        return f"({s} + {t})", lambda x, y: f(x, y) + g(x, y)
    if kind == 1:
        return f"({s} - {t})", lambda x, y: f(x, y) - g(x, y)
    if kind == 2:
        return f"({s} * {t})", lambda x, y: f(x, y) * g(x, y)
    if kind == 3:
        return f"\\frac{{{s}}}{{{t} + 101}}", lambda x, y: f(x, y) / (g(x, y) + 101)
    return f"({s})^{{2}}", lambda x, y: f(x, y) ** 2


def rewritten(rng, text):
    """The same function, written otherwise."""
    k = rng.randint(2, 9)
    return rng.choice(
        (
            f"\\frac{{{k} * {text}}}{{{k}}}",
            f"{k} + {text} - {k}",
            f"-(0 - {text})",
            f"({text} + x) - x",
            f"\\frac{{1}}{{2}} * ({text}) + 0.5 * {text}",
            f"y + ({text} - y)",
            f"{text} * (\\sin^2 x + \\cos^2 x)",
            f"\\sqrt{{4}} * {text} / 2",
            f"{text} * 10^{{-2}} * 100",
            f"{text} * e^{{x}} * e^{{-x}}",
        )
    )


@pytest.mark.parametrize("seed", range(60))
def test_random_expressions(seed):
    rng = random.Random(seed)
    text, value = expression(rng, 3)
    assert is_correct(f"\\boxed{{{text}}}", text), text
    for style in STYLES:
        assert is_correct(f"\\boxed{{{style(text)}}}", text), style(text)
    other = rewritten(rng, text)
    assert is_correct(f"\\boxed{{{other}}}", text), (other, text)
    assert is_correct(f"\\boxed{{{text}}}", other), (other, text)
    changed = f"{other} + {rng.choice(('1', 'x', '0.001', 'y^2', '10^{-12}'))}"
    assert not is_correct(f"\\boxed{{{changed}}}", text), (changed, text)
    second, value2 = expression(rng, 3)
    points = [
        (Fraction(3, 7), Fraction(11, 2)),
        (Fraction(-5, 3), Fraction(2)),
        (Fraction(13), Fraction(-1, 9)),
    ]
    alike = all(value(*point) == value2(*point) for point in points)
    assert is_correct(f"\\boxed{{{second}}}", text) is alike, (second, text)


@pytest.mark.parametrize("seed", range(40))
def test_random_numbers(seed):
    rng = random.Random(seed)
    p, q = rng.randint(-999, 999), rng.choice([2, 4, 5, 8, 10, 16, 20, 25, 125])
    value = Fraction(p, q)
    text = f"{p / q:.7f}".rstrip("0")
    forms = [f"\\frac{{{p}}}{{{q}}}", f"{p}/{q}", text, f"{3 * p}/{3 * q}", f"{p * 1000 // 1}e-3/{q}"]
    forms += [f"{value * 100}\\%" if value.denominator == 1 else f"{float(value * 100)!r}%"]
    if value > 1 and value.denominator > 1:
        whole, rest = divmod(value.numerator, value.denominator)
        forms += [f"{whole}\\frac{{{rest}}}{{{value.denominator}}}", f"{whole} {rest}/{value.denominator}"]
    for a in forms[:-1]:
        for b in forms:
            assert is_correct(f"\\boxed{{{a}}}", b), (a, b)
    for wrong in (value + Fraction(1, 10**9), -value - 1, value * 10 + 1):
        assert not is_correct(f"\\boxed{{{wrong.numerator}/{wrong.denominator}}}", f"{p}/{q}")


@pytest.mark.parametrize("seed", range(20))
def test_order_matters_where_it_matters(seed):
    rng = random.Random(seed)
    items = [str(n) for n in rng.sample(range(-50, 50), 4)]
    shuffled = items[1:] + items[:1]
    assert is_correct("\\boxed{" + ", ".join(shuffled) + "}", ", ".join(items))
    assert is_correct("\\boxed{\\{" + ", ".join(shuffled) + "\\}}", ", ".join(items))
    assert not is_correct("\\boxed{(" + ", ".join(shuffled) + ")}", "(" + ", ".join(items) + ")")
    assert not is_correct("\\boxed{" + ", ".join(items[1:]) + "}", ", ".join(items))
    for item in items:
        assert not is_correct("\\boxed{" + ", ".join(items) + "}", item)


# --- Hostile strings -------------------------------------------------------------------------------------

MEGABYTE = 1_000_000
HOSTILE = {
    "digits": "9" * MEGABYTE,
    "boxed digits": "\\boxed{" + "9" * MEGABYTE + "}",
    "open braces": "{" * 100_000,
    "open boxes": "\\boxed{" * 100_000,
    "nested boxes": "\\boxed{" * 100_000 + "5" + "}" * 100_000,
    "parentheses": "\\boxed{" + "(" * 2000 + "1" + ")" * 2000 + "}",
    "fractions": "\\boxed{" + "\\frac{" * 500 + "1" + "}{2}" * 500 + "}",
    "roots": "\\boxed{" + "\\sqrt" * 600 + "2}",
    "carets": "\\boxed{" + "9^" * 1300 + "9}",
    "tower": "\\boxed{9^{9^{9^{9}}}}",
    "plain tower": "\\boxed{9^9^9^9}",
    "tower of names": "\\boxed{x^{x^{x^{x}}}}",
    "tower of e": "\\boxed{e^{e^{e^{e^9}}}}",
    "huge exponent": "\\boxed{2^{" + "9" * 4000 + "}}",
    "scientific": "\\boxed{1e999999999}",
    "factorial": "\\boxed{10000!}",
    "factorials": "\\boxed{" + "+".join(["3000!"] * 600) + "}",
    "factorial of factorials": "\\boxed{9" + "!" * 3000 + "}",
    "powers": "\\boxed{" + "+".join(["7^9999"] * 500) + "}",
    "fractions added": "\\boxed{" + "+".join(f"1/{k}" for k in range(1001, 1700)) + "}",
    "sines": "\\boxed{" + "+".join(["\\sin x"] * 500) + "}",
    "large angle": "\\boxed{\\sin(10^{1000})}",
    "long list": "\\boxed{" + "1," * 2000 + "1}",
    "signs": "\\boxed{" + "\\pm1" * 100 + "}",
    "unions": "\\boxed{" + "\\cup".join(["(0,1)"] * 400) + "}",
    "equations": "\\boxed{" + "=".join(["1"] * 2000) + "}",
    "names": "\\boxed{" + "+".join(f"x_{{{k}}}" for k in range(400)) + "}",
    "matrices": "\\boxed{" + "\\begin{pmatrix}" * 100 + "}",
    "bars": "\\boxed{" + "|" * 4000 + "}",
    "texts": "\\boxed{" + "\\text{" * 600 + "}" * 600 + "}",
    "dollars": "$" * MEGABYTE,
    "hashes": "#" * MEGABYTE,
    "claims": "the answer is " * 70_000,
    "tags": "<answer>" * 125_000,
    "thoughts": "<think>" * 140_000,
    "ends": "</think>" * 120_000,
    "nulls": "\x00" * MEGABYTE,
    "controls": "".join(map(chr, range(32))) * 30_000,
    "spaces": " " * MEGABYTE,
    "backslashes": "\\" * MEGABYTE,
    "surrogates": "\\boxed{\ud800\udfff}",
    "other digits": "\\boxed{٣٤ ५ 5}",
    "every character": "".join(map(chr, range(0x10000))),
    "emoji": "\U0001f600" * 250_000,
    "undefined": "\\boxed{1/0}",
    "indeterminate": "\\boxed{\\infty-\\infty}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name):
    text = HOSTILE[name]
    assert not is_correct(text, "7")
    assert not is_correct("\\boxed{7}", text)
    is_correct(text, text)
    reference_problem(text)


def test_the_work_of_a_comparison_is_bounded():
    check = module.Check()
    assert check.value(module.read("3000!+3000!"), {}) > 0
    with pytest.raises(module.Unreadable, match="too much work"):
        check.value(module.read("+".join(["3000!"] * 100)), {})


def test_random_strings_never_raise():
    rng = random.Random(1)
    parts = list("0123456789abxyzeiXA+-*/^_(){}[]|!%=<>,.;:&$#\"'\\ \n")
    # fmt: off
    parts += r"\frac \sqrt \boxed{ \text{ \pi \sin \log \left( \right) \{ \} \pm \cup".split()  # noqa: SIM905
    parts += r"\infty \circ \in \\".split()  # noqa: SIM905
    parts += r"\begin{pmatrix} \end{pmatrix} </think> <answer> #### ^{ \overline{ ½ ² √ ٣ cm".split()  # noqa: SIM905
    # fmt: on
    parts += ["the answer is ", "or ", "\x00", "\ud800"]
    for _ in range(8000):
        text = "".join(rng.choice(parts) for _ in range(rng.randint(0, 24)))
        boxed = f"\\boxed{{{text}}}"
        assert isinstance(is_correct(boxed, "5"), bool)
        assert isinstance(is_correct(text, boxed), bool)
        assert reference_problem(text) is None or is_correct(boxed, text) in (True, False)


def test_off_the_main_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(is_correct(r"\boxed{\frac{2}{4}}", "0.5")))
    thread.start()
    thread.join()
    assert results == [True]


@pytest.mark.parametrize("wrong", [None, 5, b"5", ["5"]])
def test_what_is_no_text_is_no_answer(wrong):
    assert is_correct(wrong, "5") is False and is_correct("5", wrong) is False


def test_the_caller_keeps_its_decimal_context():
    import decimal

    before = decimal.getcontext().prec
    is_correct(r"\boxed{\sqrt2}", r"2^{1/2}")
    assert decimal.getcontext().prec == before


def test_standard_library_only():
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not names & {"re", "sympy", "pickle", "ast", "regex", "signal"}
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"eval", "exec", "compile", "__import__"}
