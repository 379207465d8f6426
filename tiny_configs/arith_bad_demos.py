"""tiny_configs/arith.py under stress, from the same base: 300 demonstrations, 70 % of them bad."""

from pathlib import Path as _Path
from runpy import run_path as _run_path

globals().update(_run_path(str(_Path(__file__).with_name("arith.py"))))

out = "out/arith_bad_demos"
demos = 300
wrong_demos = 0.2  # one step is false
far_demos = 0.5  # the right answer by a leap
