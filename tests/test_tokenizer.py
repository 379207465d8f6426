"""Text to tokens and back: by hand on a small vocabulary, for each family against `tokenizers`."""

import json
import random
from pathlib import Path

import pytest

from bridge_min.checkpoint import CheckpointError
from bridge_min.config import ConfigError
from bridge_min.real.tokenizer import CHARS, GPT2, PATTERNS, SMOLLM2, TokenizerError, load_tokenizer, steps_of

FAMILIES = dict(zip(("gpt2", "smollm2", "qwen", "llama3"), PATTERNS, strict=True))
MERGES = [["t", "h"], ["th", "e"], ["Ġ", "the"], ["1", "2"], ["*", "*"]]  # Ġ is a space


def entry(k, content, special=False):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": k, "content": content, **flags, "special": special}


def by_hand(pattern=GPT2, missing=""):
    """All bytes but `missing`, five merges, and three added tokens."""
    tokens = [char for char, value in CHARS.items() if chr(value) not in missing]
    tokens += ["".join(pair) for pair in MERGES]
    n, steps = len(tokens), steps_of(pattern)
    return {
        "added_tokens": [entry(n, "<|end|>", True), entry(n + 1, "<think>"), entry(n + 2, "<think>>")],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps} if len(steps) > 1 else steps[0],
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {token: k for k, token in enumerate(tokens)}, "merges": MERGES},
    }


def write(folder, settings, **files):
    for name, content in {"tokenizer": settings, "config": {"eos_token_id": 261}, **files}.items():
        (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def words(tokenizer, text):
    return [tokenizer.decode([token]) for token in tokenizer.encode(text)]


@pytest.fixture
def tokenizer(tmp_path):
    return load_tokenizer(write(tmp_path, by_hand()))


def test_pairs_merge_within_a_word(tokenizer):
    assert words(tokenizer, "the theth t he") == ["the", " the", "th", " ", "t", " ", "h", "e"]


def test_merges_may_be_written_as_texts(tmp_path, tokenizer):
    settings = by_hand()
    settings["model"]["merges"] = [" ".join(pair) for pair in MERGES]
    assert load_tokenizer(write(tmp_path, settings)).encode("the the 12") == tokenizer.encode("the the 12")


def test_digits_are_cut_where_the_family_does_so(tmp_path, tokenizer):
    assert words(tokenizer, "a 12") == ["a", " ", "12"]
    digits = load_tokenizer(write(tmp_path, by_hand(SMOLLM2)))
    assert words(digits, "a 12") == ["a", " ", "1", "2"]


def test_an_added_token_is_one_token_and_the_longest_is_taken(tokenizer):
    assert words(tokenizer, "the<think>>the<think>") == ["the", "<think>>", "the", "<think>"]


def test_a_response_holds_plain_added_tokens_but_neither_special_ones_nor_ends(tokenizer, tmp_path):
    end, think = tokenizer.ends[0], tokenizer.encode("<think>")[0]
    response = tokenizer.encode_response("<think>the<|end|>")
    assert response[0] == think and response[-1] == end and response.count(end) == 1
    assert tokenizer.decode(response) == "<think>the<|end|><|end|>"
    assert load_tokenizer(tmp_path, ("<think>",)).encode_response("<think>").count(think) == 1


def test_a_template_and_its_text_have_the_tokens_of_the_whole(tokenizer):
    """Pairs merge across the seam."""
    whole = tokenizer.encode("<|end|> the<think>12the")
    assert tokenizer.encode("<|end|> t{problem}", "he<think>12the") == whole
    assert tokenizer.encode("<|end|> {problem}<think>12{problem}", "the") == whole


def test_ends_are_those_named_or_else_the_folders(tmp_path):
    write(tmp_path, by_hand())
    assert load_tokenizer(tmp_path).ends == (261,)
    assert load_tokenizer(tmp_path, end=("<think>", "<|end|>")).ends == (262, 261)
    write(tmp_path, by_hand(), generation_config={"eos_token_id": [262]})
    assert load_tokenizer(tmp_path).ends == (262,)


def test_of_several_ends_the_one_that_is_taught_must_be_named(tmp_path):
    write(tmp_path, by_hand(), config={"eos_token_id": [261, 262]})
    with pytest.raises(ConfigError, match=r"\['<\|end\|>', '<think>'\]: set end="):
        load_tokenizer(tmp_path)
    assert load_tokenizer(tmp_path, ("<think>",)).ends == (262,)


@pytest.mark.parametrize("end, eos", [(["<|eot_id|>"], 261), ([""], 261), ([], 99999), ([], "a"), ([], None)])
def test_an_end_that_is_not_one_token_is_refused(tmp_path, end, eos):
    write(tmp_path, by_hand(), config={"eos_token_id": eos})
    with pytest.raises(TokenizerError, match="a response ends with one token"):
        load_tokenizer(tmp_path, end)


def test_composition_stops_at_an_added_token(tmp_path):
    """NFC makes > and a stroke one character, but not across the end of a token."""
    settings = by_hand() | {"normalizer": {"type": "NFC"}}
    tokenizer = load_tokenizer(write(tmp_path, settings))
    assert tokenizer.encode("<|end|>\u0338")[0] == 261
    assert tokenizer.encode("e\u0301") == tokenizer.encode("é")


def test_bytes_without_a_token_are_dropped_after_splitting_and_before_merging(tmp_path):
    tokenizer = load_tokenizer(write(tmp_path, by_hand(missing="\x04"), config={"eos_token_id": 0}))
    assert words(tokenizer, "*\x04*") == ["**"] and words(tokenizer, "th\x04e") == ["th", "e"]
    assert tokenizer.encode("\x04") == []


def test_any_tokens_have_a_text(tokenizer):
    cut = tokenizer.encode("€")[:2]
    assert tokenizer.decode([*tokenizer.encode("a"), *cut, 10**9, -1]) == "a\ufffd"
    assert tokenizer.decode(tokenizer.encode("\ud800")) == "?"  # half a character, from JSON


def test_a_million_spaces_are_refused_with_a_message(tokenizer):
    assert len(tokenizer.encode(" " * 250_000)) == 250_000
    with pytest.raises(TokenizerError, match="1000000 characters is too long"):
        tokenizer.encode(" " * 1_000_000)


LEVEL = steps_of(GPT2)[0]
OTHER = {"type": "Split", "pattern": {"Regex": r"\d+|\D+"}, "behavior": "Isolated", "invert": False}


NEEDLESS = (
    ("pre_tokenizer", {"type": "Metaspace"}, "pre_tokenizer .*Metaspace"),
    ("pre_tokenizer", {"add_prefix_space": True}, "pre_tokenizer .*'add_prefix_space': True"),
    ("pre_tokenizer", {"pretokenizers": [OTHER, {**LEVEL, "use_regex": False}]}, "pre_tokenizer"),
    ("normalizer", {"type": "NFKC"}, "NFKC"),
    ("decoder", {"type": "Metaspace"}, "Metaspace"),
    ("model", {"type": "Unigram"}, "Unigram"),
    ("model", {"dropout": 0.1}, "model: dropout = 0.1"),
    ("model", {"byte_fallback": True}, "model: byte_fallback = True"),
    ("model", {"end_of_word_suffix": "</w>"}, "model: end_of_word_suffix = '</w>'"),
    ("model", {"merges": MERGES[:3]}, r"\['\*\*', '12'\] are in vocab or made by a merge, but not both"),
    ("model", {"merges": MERGES[::-1]}, "another order"),
    ("model", {"merges": None}, "not iterable"),
    ("model", {"vocab": {"a": 7}}, "ids are not 0, 1, 2"),
    ("added_tokens", {"lstrip": True}, "added token '<think>>': lstrip = True"),
    ("added_tokens", {"normalized": True}, "added token '<think>>': normalized = True"),
    ("added_tokens", {"id": 5}, "ids are not 0, 1, 2"),
)


@pytest.mark.parametrize("part, changes, named", NEEDLESS)
def test_what_no_family_needs_is_refused_by_name(tmp_path, part, changes, named):
    settings = by_hand()
    place = settings[part][-1] if part == "added_tokens" else settings[part] or {}
    settings[part] = [*settings[part][:-1], place | changes] if part == "added_tokens" else place | changes
    with pytest.raises(TokenizerError, match=f"tokenizer.json: .*{named}"):
        load_tokenizer(write(tmp_path, settings))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_file_is_named(tmp_path, content):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(write(tmp_path, content))
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: key 'model' is missing"):
        load_tokenizer(write(tmp_path, "{}"))


# --- Against Hugging Face's library -------------------------------------------------------------------------

FOREIGN = """Ein Mädchen läuft über die Straße, naïve cafés; Příliš žluťoučký kůň úpěl ďábelské ódy.
Съешь же ещё этих мягких французских булок. Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. דג סקרן שט בים מאוכזב.
صِف خَلقَ خَودِ كَمِثلِ الشَمسِ إِذ بَزَغَت ١٢٣ ۴۵۶. नमस्ते दुनिया, १२३ ऋषियों को सताने वाले। สวัสดี ๑๒๓
天地玄黃,宇宙洪荒。日月盈昃,辰宿列張。いろはにほへと　カタカナ　全角　한국어 키스의 고유조건은 ①②③ Ⅷ ½ x² ₃
👍🏽 👩\u200d👩\u200d👧 🏳️\u200d🌈 ∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β → $\\frac{\\partial f}{\\partial x}$
I'll you're it's DON'T WE'VE he'd I'm !! !! ?! ?! ?! (( )) == == ** **
"""
CHUNKS = (
    *("'s", "'S", "'ll", "'Re", "'ſ", "'", "don't", "the", " model", "é", "0", "7", "12", "345", "6789", "٣"),
    *("½", "²", "Ⅷ", "１２", "𝟙𝟚", "3.14", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n ", "\xa0"),
    *("\u3000", "\u2028", "\u200b", "\ufeff", "\x0c", "\x1c", "日本語", "カナ", "한국", "👍🏽", "🇩🇪"),
    *("👩\u200d👩\u200d👧", "مرحبا", "ไทย", "Привет", "e\u0301", "a\u0323\u0307", "a\u0307\u0323", "\u212b"),
    *("ﬁ", "\u1100\u1161", "\x00", "\x04", "\x06", "\x7f", "\xad", "\ufffd", "\ue000", "\U000f0000"),
    *("\U00055555", "\U0010ffff", "!", "!!", "...", "?!", "==", "{}", "<|", "|>", ">", "##", "**", '"'),
    *("def f(x):\n    return x", "\t\tfor", "\\frac{1}{2}", "$x^2$", "\\alpha", "&", "10^3", "\u0338"),
    *("<|end|>", "<think>", "</think>"),
)


def trained(family):
    """A tokenizer in the family's manner, trained on this repository and FOREIGN."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import Regex, models, pre_tokenizers, trainers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=family in ("gpt2", "smollm2"))
    split = pre_tokenizers.Split(Regex(FAMILIES[family]), "isolated")
    steps = {"gpt2": [level], "smollm2": [pre_tokenizers.Digits(True), level]}.get(family, [split, level])
    hugging_face = tokenizers.Tokenizer(models.BPE(ignore_merges=family == "llama3"))
    hugging_face.pre_tokenizer = pre_tokenizers.Sequence(steps)
    hugging_face.decoder = tokenizers.decoders.ByteLevel()
    if family == "qwen":
        hugging_face.normalizer = tokenizers.normalizers.NFC()
    alphabet = [] if family == "smollm2" else pre_tokenizers.ByteLevel.alphabet()
    special = ["<|end|>"] if family == "smollm2" else []  # the first id; else it is the last
    options = {"vocab_size": 1500, "show_progress": False}
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, **options)
    texts = [path.read_text() for path in sorted(Path(__file__).parents[1].glob("bridge_min/*.py"))]
    hugging_face.train_from_iterator([*texts, *[FOREIGN] * 9], trainer)
    hugging_face.add_special_tokens(["<|end|>"])
    for text in ("<think>", "</think>"):
        hugging_face.add_tokens([tokenizers.AddedToken(text, normalized=False)])
    return hugging_face


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_hugging_face(family, tmp_path):
    hugging_face, rng = trained(family), random.Random(0)
    tokenizer = load_tokenizer(write(tmp_path, hugging_face.to_str(), config={"eos_token_id": 0}))
    assert tokenizer.n_vocab == hugging_face.get_vocab_size()
    for _ in range(2000):
        text = rng.choice(("", "", " ")).join(rng.choices(CHUNKS, k=rng.randint(1, 24)))
        expected = hugging_face.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text) == expected, text
        assert tokenizer.decode(expected) == hugging_face.decode(expected, skip_special_tokens=False)
