"""Problems and one step's data: splits, the arithmetic world, demonstrations, rewards, and what of them each
process has."""

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import EOS, SMALL, double
from naive import naive_j_rl
from test_rollout import talkative

from bridge_min import arith, tasks
from bridge_min.arith import WORDINGS, check, demonstration, document, draw, problem, worked
from bridge_min.bridge import Step, gradients, j_rl, plain_runtime, policy_logprobs
from bridge_min.config import Config, ConfigError
from bridge_min.model import build
from bridge_min.scale.recompute import chunked_logprobs
from bridge_min.tasks import Bytes, Job, choose_problems, demonstrate, load_world, roll_out, score_rows

CONFIG = Config(
    model=SMALL,
    **{"train_problems": 60, "val_problems": 10, "test_problems": 15, "demos": 30, "demos_per_step": 3},
    **{"prompts": 4, "group": 4, "max_new": 10, "wrong_demos": 0.4, "far_demos": 0.3},
)
CHAINS = {}  # prompt -> its chain, of all problems that WORLD has worded


def worded(chain, suite=""):
    shown = problem(chain, suite)
    CHAINS[shown.prompt] = chain
    return shown


WORLD = SimpleNamespace(**{**vars(arith), "problem": worded})
TASK = load_world(CONFIG, WORLD)


# --- Splits -------------------------------------------------------------------------------------------------


def chains(problems):
    return [CHAINS[problem.prompt] for problem in problems]


def test_splits_are_sized_and_disjoint_in_whatever_wording(few_chains):
    task = load_world(replace(CONFIG, train_problems=40, test_problems=10), WORLD)
    tests = [chain for suite in arith.TESTS for chain in chains(task.tests[suite])]
    train, val = chains(task.train), chains(task.val)
    assert [len(train), len(val), len(tests), len(task.demos)] == [40, 10, 4 * 10, 30]
    assert len({*train, *val, *tests}) == 40 + 10 + 4 * 10 and task.hidden == {*val, *tests}


def test_the_same_seed_is_the_same_world():
    other = load_world(replace(CONFIG, seed=1), arith)
    assert load_world(CONFIG, arith) == TASK and TASK.train != other.train and TASK.hidden != other.hidden


def test_each_demonstration_is_of_its_training_problem_and_the_kinds_change_no_problem():
    other = load_world(replace(CONFIG, wrong_demos=0.7), arith)
    assert (TASK.train, TASK.val, TASK.tests) == (other.train, other.val, other.tests)
    assert TASK.demos != other.demos
    for task in (TASK, other):
        for shown, demo in zip(task.train, task.demos, strict=False):
            assert (shown.prompt, shown.answer) == (demo.prompt, demo.answer)


def test_the_kinds_come_in_their_shares():
    draw, config = random.Random(0), replace(CONFIG, wrong_demos=0.2, far_demos=0.5)
    kinds = [tasks.draw_kind(draw, config) for _ in range(2000)]
    for kind, share in (("wrong", 0.2), ("far", 0.5), ("right", 0.3)):
        assert kinds.count(kind) / 2000 == pytest.approx(share, abs=0.04)


def test_more_problems_than_a_world_has_are_refused(few_chains):
    with pytest.raises(ConfigError, match="arith has fewer than 1000 new problems"):
        load_world(replace(CONFIG, train_problems=1000), arith)


# --- The arithmetic world -----------------------------------------------------------------------------------


def steps_of(solution):
    """7-5=2*2=4 -> [(7, "-", 5, 2), (2, "*", 2, 4)]: what each step starts from, does, and passes on."""
    first, *parts = solution.split("\n")[0].split("=")
    found, left = [], ""
    for part in parts:
        before, sign, n = next((left or first).rpartition(s) for s in "*+-" if s in (left or first)[1:])
        result = part[:1] + part[1:].split("*")[0].split("+")[0].split("-")[0]
        found.append((int(before), sign, int(n), int(result)))
        left = part
    return found


def false_steps(solution, chain):
    """How many of the steps are false, if they are the chain's, each going on from the last."""
    steps = steps_of(solution)
    assert tuple((sign, n) for _, sign, n, _ in steps) == chain[1]
    assert [left for left, *_ in steps] == [chain[0], *(result for *_, result in steps[:-1])]
    return sum({"+": left + n, "-": left - n, "*": left * n}[sign] != r for left, sign, n, r in steps)


def test_the_wordings_by_hand():
    chain, steps = (7, (("-", 5), ("*", 2), ("+", 4))), "7-5=2*2=4+4=8\n# 8"
    math, code, science = (problem(chain, suite) for suite in WORDINGS)
    assert (math.prompt, math.solution, math.answer) == ("7 - 5 * 2 + 4?\n", steps, "8")
    assert (code.prompt, code.solution, code.answer) == ("a=7\na-=5\na*=2\na+=4\na?\n", steps, "8")
    assert (science.prompt, science.solution, science.answer) == ("7 g, -5, *2, +4?\n", steps, "8")
    assert worked(chain, 2, 1) == "7-5=2*2=5+4=9\n# 9"


def test_every_chain_can_be_worked_within_its_bounds_and_earns_its_reward():
    bounds = {"": arith.TRAIN_STEPS, "hard": arith.HARD_STEPS}
    for suite, problems in {"": TASK.train + TASK.val, **TASK.tests}.items():
        low, high = bounds.get(suite, arith.STEPS)
        for shown, chain in zip(problems, chains(problems), strict=True):
            steps = steps_of(shown.solution)
            assert false_steps(shown.solution, chain) == 0 and low <= len(steps) <= high
            assert shown.answer == str(steps[-1][3]) and shown.reward(shown.solution) == 1.0
            assert all(0 <= total <= arith.LARGEST for left, *_, right in steps for total in (left, right))


def test_one_step_in_five_is_a_product():
    draw_ = random.Random(0)
    signs = [sign for suite in ("", *arith.TESTS) for _ in range(400) for sign, _ in draw(draw_, suite)[1]]
    assert signs.count("*") / len(signs) == pytest.approx(0.2, abs=0.02)


def test_demonstrations_are_right_wrong_at_one_step_or_a_leap():
    random_ = random.Random(0)
    for chain in [draw(random_) for _ in range(100)]:
        right, wrong, far = (demonstration(random_, chain, kind) for kind in ("right", "wrong", "far"))
        assert right == problem(chain) and [d.reward(d.solution) for d in (right, wrong, far)] == [1, 0, 1]
        assert [false_steps(d.solution, chain) for d in (right, wrong)] == [0, 1]
        assert far.solution == f"{far.prompt[:-2]}={far.answer}\n# {far.answer}"


def test_the_base_reads_solutions_and_guesses_and_no_product_in_a_worked_chain():
    random_, kinds = random.Random(0), {"guessed": 0, "worked": 0, "product": 0}
    for chain, prompt, response in [document(random_) for _ in range(2000)]:
        suite = {problem(chain, suite).prompt: suite for suite in WORDINGS}[prompt.replace(":\n", "?\n")]
        guessed, product, steps = "=" not in response, "*" in dict(chain[1]), len(chain[1])
        assert guessed or response == problem(chain, suite).solution
        assert guessed or not product or steps == 1
        kinds["guessed"] += guessed
        kinds["worked"] += not guessed and steps > 1
        kinds["product"] += not guessed and product
    shares = (arith.GUESSED, arith.WORKED, (1 - arith.GUESSED - arith.WORKED) * arith.SINGLE_PRODUCTS * 0.4)
    assert [n / 2000 for n in kinds.values()] == pytest.approx(shares, abs=0.03)  # 0.4: from 1 to 4 of 0..9


def test_a_response_is_right_by_a_plain_number_at_its_end():
    for right in ("7+5=12\n12-4=8\n# 8", "# 8", "#8\n", "# 9\n# 8"):
        assert check(right, "8"), right
    texts = ("7 + 1?", "16/2", "a=8", "8, 9", "8 or 8", "8=8", "(8)", "٨", "8²", "+8", "8.0", "8 kg", "")
    for wrong in texts:
        assert not check(f"# {wrong}", "8") and not check("8", "8"), wrong


# --- A step's data ------------------------------------------------------------------------------------------

ODD = lambda response, answer: len(response) % 2 == 1  # what even an untrained policy gets right at times
POLICY = double(talkative(SMALL))
PARITY = replace(TASK, train=[replace(shown, check=ODD) for shown in TASK.train])


def job(config, task=TASK, shape=SMALL, **changes):
    return Job(config, replace(plain_runtime(build(shape), config), **changes), task, Bytes())


def rolled_out(config, step=3, **changes):
    return roll_out(job(config, PARITY, **changes), step, POLICY)


def demonstrated(config, step=3, **changes):
    return demonstrate(job(config, **changes), step)


def test_a_step_tries_the_prompts_of_its_demonstrations_first():
    for step in range(50):
        shown, tried = choose_problems(CONFIG, step)
        assert tried[:3] == shown and len({*shown} & {*range(30)}) == 3 and tried[3] in range(30, 60)
    steps = [choose_problems(replace(CONFIG, seed=seed), step) for seed, step in ((0, 5), (0, 6), (1, 5))]
    assert choose_problems(CONFIG, 5) == steps[0] and steps[0] not in steps[1:]


def test_a_demonstration_is_prompt_solution_and_end():
    rows = demonstrated(CONFIG, 0)
    for n, i in enumerate(choose_problems(CONFIG, 0)[0]):
        demo, mask, length = TASK.demos[i], rows.mask[n], int(rows.length()[n])
        assert rows.tokens[n, :length].tolist() == [*(demo.prompt + demo.solution).encode(), EOS]
        assert mask.nonzero().flatten().tolist() == list(range(len(demo.prompt), length))
        assert rows.rewards[n] == demo.reward(demo.solution)
    torch.testing.assert_close(rows.weights, rows.mask / rows.mask.sum())


def test_only_a_finished_response_is_rewarded():
    always = [replace(shown, check=lambda response, answer: True) for shown in TASK.train[:4]]
    uniforms = torch.rand(4, 3, 10, generator=torch.Generator().manual_seed(0))
    rows, _ = tasks.attempt(job(CONFIG), POLICY, always, uniforms, 1.0)
    assert rows.rewards.tolist() == rows.finished.float().tolist() and 0 < rows.rewards.sum() < 12


def test_ids_that_no_text_has_are_neither_sampled_nor_scored():
    """A network may have more ids than the tokenizer."""
    padded = replace(SMALL, vocab_size=600)
    policy = double(talkative(padded))
    uniforms = torch.rand(4, 6, 10, generator=torch.Generator().manual_seed(0))
    free, cut = (job(CONFIG, shape=replace(padded, words=words)) for words in (0, Bytes.n_vocab))
    other, rows = (tasks.attempt(job, policy, TASK.train[:4], uniforms, 1.0)[0] for job in (free, cut))
    assert other.tokens.max() >= Bytes.n_vocab > rows.tokens.max()
    for logprobs in (policy_logprobs, chunked_logprobs):
        torch.testing.assert_close(logprobs(cut.runtime.model, policy, rows).float(), rows.logp)


ELSEWHERE = {"scale_by_std": False, "normaliser": "sequence", "clip_low": 0.02, "clip_high": 0.1, "kl": 0.3}
ELSEWHERE |= {"temperature": 1.5, "sample_rows": 9}


def j_rl_by_hand(config, rollouts, model, theta):
    """From tokens, rewards and recorded log-probs alone."""
    groups = rollouts.rewards.double().view(-1, config.group)
    std = groups.std(1, correction=0, keepdim=True) + 1e-4 if config.scale_by_std else 1
    A = (groups - groups.mean(1, keepdim=True)) / std
    world = SimpleNamespace(model=model, config=config, rollouts=rollouts)
    return float(naive_j_rl(world, theta, {}, A.flatten()))


def test_every_setting_of_the_objective_reaches_it():
    """From roll_out to j_rl, each at a value of its own; and each of them counts."""
    config = replace(CONFIG, **ELSEWHERE)
    theta, reference = (double(POLICY, 0.02, seed) for seed in (1, 2))
    rollouts, _ = rolled_out(config, step=0)
    rollouts.ref_logp = score_rows(job(config), reference, rollouts)
    torch.testing.assert_close(score_rows(job(config), POLICY, rollouts).float(), rollouts.logp)
    step = Step(config, job(config).runtime, None, rollouts)
    found = float(gradients(step, [j_rl(step)], theta, {})[2]["j_rl"])
    by_hand = lambda config: j_rl_by_hand(config, rollouts, step.runtime.model, theta)
    assert found == pytest.approx(by_hand(config), abs=1e-6)
    for name in ELSEWHERE.keys() - {"sample_rows"}:
        assert abs(by_hand(replace(config, **{name: getattr(Config(), name)})) - found) > 1e-4, name


# --- Flipped rewards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chance", [0.5, 1.0])
def test_training_sees_flipped_rewards_and_the_log_the_true_ones(chance):
    true, stats = rolled_out(CONFIG)
    noisy, seen = rolled_out(replace(CONFIG, reward_flip=chance))
    assert torch.equal(noisy.tokens, true.tokens) and 0 < seen["reward"] == stats["reward"] < 1
    changed = noisy.rewards != true.rewards
    assert torch.equal(noisy.rewards[changed], 1 - true.rewards[changed])
    assert changed.all() if chance == 1 else 0 < changed.sum() < 16
    groups, A = noisy.rewards.view(4, 4), noisy.advantages.view(4, 4)
    assert torch.equal(A > 0, groups > groups.mean(1, keepdim=True))
    assert float(seen["mixed"]) == float((groups.amin(1) < groups.amax(1)).float().mean())


def test_flips_come_with_their_probability_anew_for_each_step_seed_and_purpose():
    def flip(chance, step=0, purpose="rollouts", seed=0, prompts=3000):
        noisy = replace(CONFIG, train_problems=5000, prompts=3000, reward_flip=chance, seed=seed)
        return tasks.flipped(job(noisy), torch.zeros(12000), step, purpose, prompts)

    share = lambda flips: pytest.approx(float(flips.mean()), abs=0.02)
    assert not flip(0.0).any() and flip(1.0).all() and share(flip(0.4)) == 0.4
    for other in (flip(0.4, step=1), flip(0.4, seed=1), flip(0.4, purpose="demonstrations", prompts=12000)):
        assert share(other * flip(0.4)) == 0.4**2  # independent


# --- Many processes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("make, G", [(lambda *a, **to: rolled_out(*a, **to)[0], 4), (demonstrated, 1)])
def test_the_slices_of_all_processes_are_the_step_of_one(make, G, world):
    """Rollouts, demonstrations, flips, weights; of five processes the last has none."""
    config = replace(CONFIG, reward_flip=0.5)
    whole = make(config)
    parts = [make(config, rank=r, processes=world, total=lambda x: whole.mask.sum()) for r in range(world)]
    assert sum(map(len, parts)) == len(whole)
    for n in range(len(whole)):
        rank, row = n // G % world, n // G // world * G + n % G
        mine, same = (rows.take(torch.tensor([i])) for rows, i in ((parts[rank], row), (whole, n)))
        for name in ("tokens", "mask", "weights", "rewards", "finished", "advantages"):
            a, b = getattr(mine, name), getattr(same, name)
            assert a is b is None or torch.equal(a, b), name
        if G > 1:
            torch.testing.assert_close(mine.logp, same.logp, atol=1e-5, rtol=1e-5)


def test_lengths_and_tokens_that_do_not_fit_the_network_are_refused():
    tasks.check_fit(job(CONFIG))
    shown = max(len(demo.prompt + demo.solution) + 1 for demo in TASK.demos)
    for max_new, shape, words in (
        (60, SMALL, r"max_new = 60.*max_position_embeddings = 64"),
        (1, replace(SMALL, max_position_embeddings=shown - 1), f"up to {shown} tokens"),
        (1, replace(SMALL, vocab_size=100), "vocab_size = 100"),
        (1, replace(SMALL, words=101), "vocab_size = 101, or words"),
    ):
        with pytest.raises(ConfigError, match=words):
            tasks.check_fit(job(replace(CONFIG, max_new=max_new), shape=shape))
