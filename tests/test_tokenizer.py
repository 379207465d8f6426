"""Hugging Face's `tokenizers` is the reference: ids and texts must be the same, for every family of files."""

import json
import random
import unicodedata
from pathlib import Path

import pytest

from bridge_min.tokenizer import TokenizerError, byte_tokenizer, load_tokenizer

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import Regex, models, pre_tokenizers, trainers  # noqa: E402

FOREIGN = """Ein Mädchen läuft über die Straße, naïve cafés; Příliš žluťoučký kůň úpěl ďábelské ódy.
Съешь же ещё этих мягких французских булок. Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. דג סקרן שט בים מאוכזב.
صِف خَلقَ خَودِ كَمِثلِ الشَمسِ إِذ بَزَغَت ١٢٣ ۴۵۶. नमस्ते दुनिया, १२३ ऋषियों को सताने वाले। สวัสดี ๑๒๓
天地玄黃,宇宙洪荒。日月盈昃,辰宿列張。いろはにほへと　カタカナ　全角　한국어 키스의 고유조건은 ①②③ Ⅷ ½ x² ₃
👍🏽 👩\u200d👩\u200d👧 🏳️\u200d🌈 ∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β → $\\frac{\\partial f}{\\partial x}$
I'll you're it's DON'T WE'VE he'd I'm !! !! ?! ?! ?! (( )) == == ** **
"""
CHUNKS = (
    *("'s", "'S", "'ll", "'LL", "'Re", "'ſ", "'ve", "'", "don't", "WE'VE", "the", " model", "izer", "é"),
    *("0", "7", "12", "345", "6789", "2024", "٣", "४५", "½", "²", "Ⅷ", "①", "１２", "𝟙𝟚", "3.14", "1,000"),
    *(" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n ", "\n\t", "\xa0", "\u3000", "\u2009", "\x0b"),
    *("\u2028", "\u200b", "\ufeff", "\x0c", "\x1c", "\x1f", "日本語", "漢字", "中", "カナ", "한국", "ｶﾞ"),
    *("👍", "👍🏽", "👩\u200d👩\u200d👧", "🏳\ufe0f\u200d🌈", "🇩🇪", "\ufe0f", "\u200d", "مرحبا", "بِ"),
    *("שלום", "ไทย", "Привет", "Ξεσ", "e\u0301", "A\u030a", "a\u0323\u0307", "a\u0307\u0323"),
    *("q\u0307", "\u212b", "ﬁ", "\u0344", "\u1100\u1161", "\x00", "\x01", "\x04", "\x06", "\x13"),
    *("\x7f", "\xad", "\ufffd", "\ue000", "\uffff", "\U000e0001", "\U000f0000", "\U00055555", "\U0010ffff"),
    *("\U00010330", "𐤀", "ᚠ", "ß", "ǆ", "ÿ", "!", "!!", "...", "?!", "--", "==", "=>", "()", "{}", "["),
    *("<|", "|>", ">", "_", "#", "##", "**", "``", '"', "def f(x):\n    return x", "    if", "\t\tfor"),
    *("// ", "\\frac{1}{2}", "$x^2$", "\\alpha", "\\\\", "&", "\\n", "Token", "10^3", "\x85", "각"),
    *("नमस्ते", "क्ष", "\u0338", "\u0301", "\x14", "\x1d", "ꙮ", "]", "</", "x += 1;"),
)  # fmt: skip
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PLAIN = ("<think>", "</think>", "<think>>")  # added, not special; one begins like another
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
PRE_TOKENIZERS = {
    "gpt2": BYTE_LEVEL,
    "llama3": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "qwen2": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3.replace("{1,3}", "")), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "smollm2": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), BYTE_LEVEL]),
    "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(False), BYTE_LEVEL]),
    "words": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{L}+|\s"), "isolated"),  # what lies between stays, in one piece
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "spaces": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(".", "isolated"),  # a text, not a pattern
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
}
FAMILIES = tuple(PRE_TOKENIZERS)


def strings(count: int, seed: int = 0) -> list[str]:
    rng, words = random.Random(seed), [*CHUNKS, *SPECIAL, *PLAIN]
    made = []
    for _ in range(count):
        chosen = rng.choices(words, k=rng.randint(1, 24))
        made.append(rng.choice(("", "", " ")).join(chosen))
    return [*made, ""]


def corpus() -> list[str]:
    root = Path(__file__).parent.parent / "bridge_min"
    return [path.read_text(encoding="utf-8") for path in sorted(root.glob("*.py"))]


def trained(family: str) -> dict:
    """The settings of a tokenizer in the family's manner, trained on this repository and FOREIGN."""
    smollm = family == "smollm2"
    # CHUNKS too, so that merges of rare bytes are learnt; not where some bytes are to be missing
    texts = corpus() + [FOREIGN] * 9 + ([] if smollm else strings(300, seed=1))
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=family == "llama3"))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[family]
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    if family == "qwen2":
        tokenizer.normalizer = tokenizers.normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=list(SPECIAL) if smollm else [],  # the first ids; else they are the last
        initial_alphabet=[] if smollm else pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in PLAIN])
    return json.loads(tokenizer.to_str())


@pytest.fixture(scope="module")
def settings():
    """settings(family): a fresh copy."""
    made = {}

    def copy(family):
        made[family] = made.get(family) or json.dumps(trained(family))
        return json.loads(made[family])

    return copy


def write(folder: Path, settings: dict, **files) -> Path:
    for name, content in {"tokenizer": settings, "config": {"eos_token_id": 0}, **files}.items():
        if content is not None:
            (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def both(folder: Path, settings: dict):
    reference = tokenizers.Tokenizer.from_str(json.dumps(settings))
    return load_tokenizer(write(folder, settings)), reference


def mismatches(tokenizer, reference, texts) -> list[str]:
    wrong = []
    for text in texts:
        expected = reference.encode(text, add_special_tokens=False).ids
        decoded = reference.decode(expected, skip_special_tokens=False)
        if tokenizer.encode(text) != expected or tokenizer.decode(expected) != decoded:
            wrong.append(text)
    return wrong


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_hugging_face(settings, tmp_path, family):
    tokenizer, reference = both(tmp_path, settings(family))
    texts = strings(2000)
    assert mismatches(tokenizer, reference, texts) == []
    assert tokenizer.n_vocab == reference.get_vocab_size()
    for text in texts:
        if family != "qwen2" or unicodedata.is_normalized("NFC", text):
            kept = text.encode().translate(None, tokenizer.missing).decode("utf-8", "replace")
            assert tokenizer.decode(tokenizer.encode(text)) == kept


def test_the_ids_of_rare_code_points_too(settings, tmp_path):
    """Every string of 16 code points that lie side by side, in the planes that have characters."""
    tokenizer, reference = both(tmp_path, settings("gpt2"))
    points = [*range(0xD800), *range(0xE000, 0x11D00), *range(0x1E000, 0x20000)]
    texts = ["".join(map(chr, points[at : at + 16])) for at in range(0, len(points), 16)]
    assert mismatches(tokenizer, reference, texts) == []


def test_bytes_without_a_token_are_dropped_before_merging(settings, tmp_path):
    tokenizer, reference = both(tmp_path, settings("smollm2"))
    assert 0x04 in tokenizer.missing and 0xF1 in tokenizer.missing and 0x61 not in tokenizer.missing
    assert tokenizer.encode("*\x04*") == tokenizer.encode("**") and len(tokenizer.encode("**")) == 1
    assert (
        tokenizer.encode("a\x04b") == tokenizer.encode("a") + tokenizer.encode("b") != tokenizer.encode("ab")
    )
    assert tokenizer.encode("\x04\x06") == [] and tokenizer.decode(tokenizer.encode("1\x042")) == "12"
    texts = ["".join(random.Random(k).choices("**==()'s a\n\x04\x061\U00055555é", k=20)) for k in range(2000)]
    assert mismatches(tokenizer, reference, texts) == []
    assert tokenizer.encode("a\ud800\x04b") == tokenizer.encode("a\ufffdb")  # a lone surrogate, from JSON


@pytest.mark.parametrize("individual", [True, False])
def test_numbers_are_cut_though_they_could_merge(settings, tmp_path, individual):
    changed = settings("digits")
    assert "00" in changed["model"]["vocab"]
    changed["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = individual
    tokenizer, reference = both(tmp_path, changed)
    assert mismatches(tokenizer, reference, strings(500)) == []
    assert len(tokenizer.encode("x 00")) == (4 if individual else 3)


def test_ids_in_another_order_than_merges(settings, tmp_path):
    """The same tokenizer with its ids shuffled, as OPT's and RoBERTa's are."""
    for family in ("gpt2", "smollm2"):
        changed = settings(family)
        vocab, taken = changed["model"]["vocab"], [token["content"] for token in changed["added_tokens"]]
        movable = [token for token in vocab if token not in taken]
        ids = [vocab[token] for token in movable]
        random.Random(0).shuffle(ids)
        vocab.update(zip(movable, ids, strict=True))
        tokenizer, reference = both(tmp_path, changed)
        assert tokenizer.ids is not None and load_tokenizer(write(tmp_path, settings(family))).ids is None
        assert mismatches(tokenizer, reference, strings(500)) == []


def test_both_layouts_of_merges(settings, tmp_path):
    changed = settings("gpt2")
    tokenizer = load_tokenizer(write(tmp_path, changed))
    assert isinstance(changed["model"]["merges"][0], list)
    changed["model"]["merges"] = [" ".join(pair) for pair in changed["model"]["merges"]]
    other, reference = both(tmp_path, changed)
    texts = strings(200)
    assert mismatches(other, reference, texts) == []
    assert [tokenizer.encode(text) for text in texts] == [other.encode(text) for text in texts]


def test_tokens_that_no_merge_makes(settings, tmp_path):
    """tiktoken would make "th e" one token if "the" were a token; Hugging Face needs a merge."""
    changed = settings("gpt2")
    del changed["model"]["merges"][-600:]
    tokenizer, reference = both(tmp_path, changed)
    assert mismatches(tokenizer, reference, [*strings(500), *corpus()]) == []
    changed["model"]["ignore_merges"] = (
        True  # and here a piece that is a token is one, but no part of a piece
    )
    with pytest.raises(TokenizerError, match="ignore_merges is not supported with"):
        load_tokenizer(write(tmp_path, changed))


def test_a_whole_piece_that_no_merge_can_make(settings, tmp_path):
    changed = settings("llama3")
    changed["model"]["vocab"]["ĠxyzzyQ"] = changed["added_tokens"][-1]["id"] + 1
    changed["model"]["vocab"] |= {t["content"]: t["id"] for t in changed["added_tokens"]}
    changed["model"]["vocab"]["STOP"] = stop = changed["model"]["vocab"]["ĠxyzzyQ"] + 1
    changed["added_tokens"].append(entry(stop, "STOP", special=True))
    tokenizer, reference = both(tmp_path, changed)
    texts = [" xyzzyQ", "a xyzzyQ xyzzyQr", "xyzzyQ", "<|im_end|> xyzzyQ"]
    assert mismatches(tokenizer, reference, texts) == []
    assert tokenizer.encode(" xyzzyQ") == [changed["model"]["vocab"]["ĠxyzzyQ"]]
    assert stop in tokenizer.encode("STOP") and stop not in tokenizer.encode_response("STOP")


# --- added tokens -------------------------------------------------------------------------------------------


def entry(k: int, content: str, **changes) -> dict:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": k, "content": content, **flags, **changes}


@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_overlapping_and_normalised_added_tokens(settings, tmp_path, family):
    changed = settings(family)
    late = ("  ", "   ", "    ", "ab>", "e\u0301e", "日本")  # looked for once the others are found
    texts = (*late, "aab", "b>=", "éa", "x<|im", "\u0338")
    first = changed["added_tokens"][-1]["id"] + 1
    changed["added_tokens"] += [
        entry(first + k, text, normalized=text in late, special=bool(k % 2)) for k, text in enumerate(texts)
    ]
    tokenizer, reference = both(tmp_path, changed)
    rng, words = random.Random(0), [*texts, "a", "b", ">", "=", "e", "\u0301", "é", *SPECIAL, *PLAIN, " "]
    made = ["".join(rng.choices(words, k=12)) for _ in range(2000)]
    expected = [reference.encode(text, add_special_tokens=False).ids for text in made]
    assert [tokenizer.encode(text) for text in made] == expected
    assert tokenizer.decode(range(first, tokenizer.n_vocab)) == "".join(
        texts
    )  # tokenizers 0.23 has no "é" here
    assert len({token for text in made for token in tokenizer.encode(text) if token >= first}) == len(texts)


def test_composition_stops_at_an_added_token(settings, tmp_path):
    """NFC makes ">" and U+0338 one character, but not across the end of a token."""
    tokenizer, reference = both(tmp_path, settings("qwen2"))
    assert (
        mismatches(tokenizer, reference, ["<|im_end|>\u0338 >\u0338", "<think>\u0338", "e<think>\u0301"])
        == []
    )
    end = reference.token_to_id("<|im_end|>")
    assert (
        tokenizer.encode("<|im_end|>\u0338")[0] == end
        and tokenizer.decode(tokenizer.encode("e\u0301")) == "é"
    )


def test_a_response_holds_plain_added_tokens_but_no_special_ones(settings, tmp_path):
    for family in ("qwen2", "smollm2"):
        tokenizer, reference = both(tmp_path, settings(family))
        end, think = (reference.token_to_id(text) for text in ("<|im_end|>", "<think>"))
        tokenizer = load_tokenizer(tmp_path, end=["<|im_end|>"])
        text = "<think>a<|im_end|>b</think>"
        assert tokenizer.encode(text).count(end) == tokenizer.encode(text).count(think) == 1
        response = tokenizer.encode_response(text)
        assert response[-1] == end and response.count(end) == 1 and response[0] == think
        assert tokenizer.decode(response) == text + "<|im_end|>"
        assert max(response[1:-2]) < len(settings(family)["model"]["vocab"])
        assert tokenizer.encode_response("") == [end]
        ended = load_tokenizer(tmp_path, end=["</think>", "<|im_end|>"])  # an end is none within a response
        assert ended.encode_response(text).count(ended.ends[0]) == 1 and ended.ends[1] == end


# --- decoding -----------------------------------------------------------------------------------------------


def test_decode_never_raises(settings, tmp_path):
    changed = settings("qwen2")
    last = "".join(changed["model"]["merges"][-1])
    top, gap = changed["added_tokens"][-1]["id"], changed["model"]["vocab"][last]
    changed["model"]["vocab"][last] = top + 10  # its old id and those between have no text
    tokenizer = load_tokenizer(write(tmp_path, changed))
    assert tokenizer.n_vocab == top + 11 and tokenizer.texts[top + 10]
    for token in range(tokenizer.n_vocab + 5):
        assert isinstance(tokenizer.decode([token]), str)
    assert tokenizer.decode([top + 1, top, gap, top + 11, 1 << 40, -1]) == PLAIN[-1]
    with pytest.raises(TokenizerError, match=f"{gap} is no token"):
        load_tokenizer(write(tmp_path, changed, config={"eos_token_id": gap}))
    assert tokenizer.decode([]) == ""
    rng = random.Random(0)
    for _ in range(200):
        assert isinstance(tokenizer.decode(rng.choices(range(tokenizer.n_vocab), k=30)), str)


def test_broken_utf8_is_replaced(settings, tmp_path):
    tokenizer = load_tokenizer(write(tmp_path, settings("gpt2")))
    lead, follow = (tokenizer.texts.index(byte) for byte in (b"\xe6", b"\x97"))
    tokens = tokenizer.encode("a") + [lead, follow] + tokenizer.encode("b")
    assert tokenizer.decode(tokens) == "a\ufffdb" and tokenizer.decode([follow]) == "\ufffd"


def test_bytes_tokenizer():
    tokenizer = byte_tokenizer()
    assert tokenizer.encode("é<|end|><|pad|>") == [195, 169, 257, 256] and tokenizer.n_vocab == 258
    assert tokenizer.encode_response("é<|end|>") == [*"é<|end|>".encode(), 257]
    assert tokenizer.encode("\n") == [10]
    assert tokenizer.decode([195, 169, 257, 300, 256]) == "é<|end|><|pad|>"


# --- ends ---------------------------------------------------------------------------------------------------


def test_ends_from_every_source(settings, tmp_path):
    made = settings("smollm2")
    files = {
        "generation_config": {"eos_token_id": [2, 0]},
        "config": {"eos_token_id": 1},
        "tokenizer_config": {"eos_token": {"content": "<|im_end|>"}},
    }
    assert load_tokenizer(write(tmp_path, made, **files)).ends == (2, 0)
    assert load_tokenizer(tmp_path, end=["<|im_start|>", "<|endoftext|>"]).ends == (1, 0)
    assert load_tokenizer(tmp_path, end="<|im_start|>").ends == (1,)
    write(tmp_path, made, generation_config={"eos_token_id": None}, config={"eos_token_id": 1})
    assert load_tokenizer(tmp_path).ends == (1,)
    (tmp_path / "generation_config.json").unlink()
    write(tmp_path, made, config={})
    assert load_tokenizer(tmp_path).ends == (2,)
    write(tmp_path, made, config={}, tokenizer_config={"eos_token": "<|endoftext|>"})
    assert load_tokenizer(tmp_path).ends == (0,)
    write(tmp_path, made, config={}, tokenizer_config={"eos_token": None})
    with pytest.raises(TokenizerError, match="set end="):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("found", [99999, -1, "0", [0, 99999], True, 1.0])
def test_an_end_that_does_not_exist(settings, tmp_path, found):
    write(tmp_path, settings("smollm2"), config={"eos_token_id": found})
    with pytest.raises(TokenizerError, match=r"config\.json: eos_token_id .* is no token"):
        load_tokenizer(tmp_path)


def test_an_end_that_is_not_one_token(settings, tmp_path):
    write(tmp_path, settings("smollm2"))
    for text in ("<|eot_id|>", "", "!\x04", "<|im_end|><|im_end|>"):
        with pytest.raises(TokenizerError, match=r"end: .* is not one token") as error:
            load_tokenizer(tmp_path, end=["<|im_end|>", text])
        assert repr(text) in str(error.value)
    write(tmp_path, settings("smollm2"), config={}, tokenizer_config={"eos_token": "</s>"})
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json: eos_token: '</s>' is not one token"):
        load_tokenizer(tmp_path)


# --- refusals -----------------------------------------------------------------------------------------------

LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BARE = LEVEL | {"use_regex": False}
SPLIT = {"type": "Split", "pattern": {"Regex": r"\d+|\D+"}, "behavior": "Isolated", "invert": False}
EACH = {"type": "Digits", "individual_digits": True}


FOREIGN_MERGES = {"added_tokens": [], "model": {"vocab": {"▁": 0, "a": 1, "▁a": 2}, "merges": [["▁", "a"]]}}


def sequence(*steps):
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}}


@pytest.mark.parametrize(
    "changes, named",
    [
        (sequence(SPLIT, SPLIT, BARE), "pre_tokenizer.*'Split', 'Split'"),
        (sequence(EACH, SPLIT, BARE), "pre_tokenizer.*'Digits', 'Split'"),
        (sequence(SPLIT, LEVEL), "'Split', 'ByteLevel'.*use_regex"),
        (sequence(EACH, BARE), "'Digits', 'ByteLevel'.*use_regex"),
        (sequence(LEVEL, EACH), "pre_tokenizer.*'ByteLevel', 'Digits'"),
        (sequence(SPLIT | {"behavior": "Removed"}, BARE), "Split: behavior = 'Removed'"),
        (sequence(SPLIT | {"behavior": "MergedWithNext"}, BARE), "Split: behavior = 'MergedWithNext'"),
        (sequence(SPLIT | {"invert": True}, BARE), "Split: invert = True"),
        (sequence(SPLIT | {"pattern": {"Regex": "("}}, BARE), "tokenizer.json is broken.*parenthesis"),
        (sequence(SPLIT | {"pattern": {"Regex": "a*"}}, BARE), "'a\\*' matches the empty text"),
        (sequence(EACH, LEVEL | {"add_prefix_space": True}), "ByteLevel: add_prefix_space = True"),
        (sequence(), "pre_tokenizer"),
        ({"pre_tokenizer": LEVEL | {"add_prefix_space": True}}, "ByteLevel: add_prefix_space = True"),
        ({"pre_tokenizer": LEVEL | {"new": 1}}, "ByteLevel: new = 1"),
        ({"pre_tokenizer": BARE}, "use_regex"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "pre_tokenizer.*Metaspace"),
        ({"pre_tokenizer": None}, "pre_tokenizer"),
        ({"normalizer": {"type": "NFKC"}}, "normalizer.*NFKC"),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer.*Lowercase"),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]}}, "Strip"),
        ({"decoder": {"type": "Metaspace"}}, "decoder Metaspace"),
        ({"model": {"type": "Unigram"}}, "model: type = 'Unigram'"),
        ({"model": {"dropout": 0.1}}, "model: dropout = 0.1"),
        ({"model": {"byte_fallback": True}}, "model: byte_fallback = True"),
        ({"model": {"continuing_subword_prefix": "##"}}, "model: continuing_subword_prefix = '##'"),
        ({"model": {"end_of_word_suffix": "</w>"}}, "model: end_of_word_suffix = '</w>'"),
        ({"model": {"new": 1}}, "model: new = 1"),
        ({"model": {"unk_token": "!"}}, "unk_token"),
        ({"model": {"merges": [["a", "never"]]}}, "'anever' of a merge|'never' of a merge"),
        (FOREIGN_MERGES, "'▁a?' of a merge is not .*byte-level"),
        ({"model": {"merges": ["a b c"]}}, "tokenizer.json is broken"),
        ({"model": {"merges": None}}, "tokenizer.json is broken"),
        ({"model": {"vocab": {}}}, "Hugging Face would make it"),
        ({"model": None}, "tokenizer.json is broken"),
        ({"added_tokens": [{"id": 0}]}, "tokenizer.json is broken"),
        ({"added_tokens": [entry(0, "<|endoftext|>", lstrip=True)]}, "endoftext.*: lstrip = True"),
        ({"added_tokens": [entry(0, "<|endoftext|>", rstrip=True)]}, "endoftext.*: rstrip = True"),
        ({"added_tokens": [entry(0, "<|endoftext|>", single_word=True)]}, "endoftext.*: single_word = True"),
        ({"added_tokens": [entry(5, "<|endoftext|>")]}, "endoftext.*has id 5.*would make it 0"),
        ({"added_tokens": [entry(99999, "<new>")]}, "'<new>' has id 99999"),
    ],
)
def test_what_is_not_done_is_refused_by_name(settings, tmp_path, changes, named):
    changed = settings("smollm2")
    for name, value in changes.items():
        changed[name] = changed[name] | value if name == "model" and value else value
    with pytest.raises(TokenizerError, match=named) as error:
        load_tokenizer(write(tmp_path, changed))
    assert "tokenizer.json" in str(error.value) and ("is broken" in named) == (
        "is broken" in str(error.value)
    )


@pytest.mark.parametrize("wrong", [1 << 40, -99999, 7])
def test_ids_that_cannot_be(settings, tmp_path, wrong):
    changed = settings("gpt2")
    changed["model"]["vocab"]["="] = wrong
    with pytest.raises(TokenizerError, match="taken or out of range"):
        load_tokenizer(write(tmp_path, changed))


def test_normalizers_and_settings_that_change_nothing(settings, tmp_path):
    changed = settings("gpt2")
    changed["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}]}
    changed["model"] |= {"unk_token": "!", "dropout": 0.0, "end_of_word_suffix": None}
    tokenizer, reference = both(tmp_path, changed)
    assert mismatches(tokenizer, reference, strings(200)) == [] and tokenizer.nfc


@pytest.mark.parametrize("name", ["tokenizer", "generation_config", "config", "tokenizer_config"])
def test_broken_files(settings, tmp_path, name):
    ends = {"generation_config": None, "config": None} if name == "tokenizer_config" else {}
    for content, fault in (("{", "is no JSON"), ("[]", "is no JSON object"), ("[" * 100000, "is no JSON")):
        write(tmp_path, settings("smollm2"), **{**ends, name: content})
        with pytest.raises(TokenizerError, match=rf"{name}\.json {fault}"):
            load_tokenizer(tmp_path)
    (tmp_path / f"{name}.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(TokenizerError, match=rf"{name}\.json is no JSON"):
        load_tokenizer(tmp_path)


def test_a_missing_file(tmp_path):
    with pytest.raises(TokenizerError, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(tmp_path)
