"""Text to tokens and back, by tiktoken: the tokenizer.json of Qwen2, Qwen3, Llama 3, GPT-2 and SmolLM2.

The ids are Hugging Face's, without what it may put around a text (post_processor, padding, truncation).
Anything else that a file asks for and that none of these families needs is refused by name. A response's end
must be sampled, scored and trained, so it is a token like any other; where padding lies is known from masks,
never from token values. Read on in jsonl.py, where the texts come from.
"""

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tiktoken

from ..config import ConfigError, require
from .pretrained import naming, read_json

LONGEST = 250_000  # characters at once; from 333,000 spaces on, tiktoken's search overflows its stack

# --- What the families ask for ------------------------------------------------------------------------------

WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|"
GPT2 = WORDS + r" ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SMOLLM2 = WORDS + r"\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"  # cut around digits, then GPT2
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
LLAMA3, LINES = QWEN + "{1,3}", r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = (GPT2, SMOLLM2, QWEN + LINES, LLAMA3 + LINES)


def steps_of(pattern: str) -> list[dict[str, Any]]:
    """How tokenizer.json says that a text is split by this pattern before pairs merge."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    digits = {"type": "Digits", "individual_digits": True}
    before = {GPT2: [], SMOLLM2: [digits]}.get(pattern, [split])
    return [*before, {"type": "ByteLevel", "add_prefix_space": False, "use_regex": before != [split]}]


class TokenizerError(ConfigError):
    """A tokenizer that cannot be used, or a text that it cannot read; the message says what is at fault."""


@dataclass(frozen=True)
class Tokenizer:
    encoding: tiktoken.Encoding
    first: tiktoken.Encoding  # makes bytes of a text's first piece
    missing: bytes  # bytes without a token
    nfc: bool  # texts are composed first: e and an accent are one character
    texts: Sequence[bytes]  # of every token
    added: Mapping[str, int]  # taken out of a text before the rest is split: always one token
    plain: Mapping[str, int]  # those of them that a response can hold, too
    n_vocab: int  # one more than the largest token
    ends: tuple[int, ...] = ()  # tokens that end a response; a demonstration is ended by the first

    def encode(self, template: str, text: str = "{problem}") -> list[int]:
        """The tokens of a prompt, a template with a text for {problem}: special tokens in the template are
        tokens, in the text they are only text. Raises TokenizerError for more than 250,000 characters."""
        fill = lambda part: self._encode(part.replace("{problem}", text))  # pairs may merge across the seam
        return list(cut(template, self.added, fill))

    def encode_response(self, text: str) -> list[int]:
        """The tokens of a response, and its end: the text of a special token, or of an end, is only text.
        Raises TokenizerError for more than 250,000 characters."""
        return [*self._encode(text), self.ends[0]]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of any tokens: one that does not exist has none, broken UTF-8 becomes U+FFFD."""
        known = [self.texts[token] for token in tokens if 0 <= token < self.n_vocab]
        return b"".join(known).decode("utf-8", "replace")

    def _encode(self, text: str) -> list[int]:
        if len(text) > LONGEST:
            raise TokenizerError(f"a text of {len(text)} characters is too long: {LONGEST} are read at once")
        plain = {token: k for token, k in self.plain.items() if k not in self.ends}
        return list(cut(text.encode("utf-8", "replace").decode(), plain, self._merge))

    def _merge(self, text: str) -> list[int]:
        if self.nfc:  # only now: it could join an added token's last character to the next one
            text = unicodedata.normalize("NFC", text)
        data, tokens = text.encode(), []
        if data == data.translate(None, self.missing):
            return self.encoding.encode_ordinary(text)
        while data:  # Hugging Face drops these bytes between splitting and merging; tiktoken would panic
            piece = bytes(self.first.encode_ordinary(data.decode()))
            kept, data = piece.translate(None, self.missing), data[len(piece) :]
            tokens += self.encoding._encode_single_piece(kept) if kept else []
        return tokens


def cut(text: str, added: Mapping[str, int], read: Callable[[str], list[int]]) -> Iterator[int]:
    """The tokens of a text: of added ones the leftmost and, of those, the longest; `read` makes the rest."""
    start, present = 0, [token for token in added if token in text]
    while found := [(at, -len(token), token) for token in present if (at := text.find(token, start)) >= 0]:
        at, _, token = min(found)
        yield from read(text[start:at])
        yield added[token]
        start = at + len(token)
    yield from read(text[start:])


# --- A folder in Hugging Face's format ----------------------------------------------------------------------


def load_tokenizer(folder: Path, end: Sequence[str] = ()) -> Tokenizer:
    """The tokenizer of a folder with tokenizer.json. `end`: texts of the tokens that end a response, if not
    that which the folder names. Raises TokenizerError, ConfigError where the folder names several (the first
    is not always the one that ends a chat turn), or CheckpointError for a file that is no JSON."""
    with naming(folder / "tokenizer.json", TokenizerError):
        tokenizer = build(read_json(folder / "tokenizer.json"))
    ends = [tokenizer.encode(text) for text in end] or folder_ends(folder)
    if not ends or any(len(tokens) != 1 or tokens[0] not in range(tokenizer.n_vocab) for tokens in ends):
        raise TokenizerError(f"{folder}: a response ends with one token; end or eos_token_id gives {ends}")
    texts = [tokenizer.decode(tokens) for tokens in ends]
    require(end or len(ends) == 1, f"{folder}: eos_token_id lists {texts}: set end=, that to be taught first")
    return replace(tokenizer, ends=tuple(token for [token] in ends))


def folder_ends(folder: Path) -> list[list[Any]]:
    """The ids of the tokens that end a text, each by itself."""
    for path in (folder / "generation_config.json", folder / "config.json"):
        found = read_json(path).get("eos_token_id") if path.exists() else None
        if found is not None:
            return [[token] for token in found] if isinstance(found, list) else [[found]]
    return []


def build(settings: dict[str, Any]) -> Tokenizer:
    """All but the ends. Raises ConfigError for what is not done here."""
    model, nfc, entries = settings["model"], settings["normalizer"] is not None, settings["added_tokens"]
    added = {entry["content"]: entry["id"] for entry in entries}
    ids = model["vocab"] | added
    require(sorted(ids.values()) == list(range(len(ids))), "ids are not 0, 1, 2 ..., one for each token")
    ranks, pattern = merge_order(model, added), read_pattern(settings["pre_tokenizer"])
    missing = bytes(value for value in range(256) if bytes([value]) not in ranks)
    kinds = [settings["normalizer"] or {"type": "NFC"}, settings["decoder"]["type"], model.get("type", "BPE")]
    require(kinds == [{"type": "NFC"}, "ByteLevel", "BPE"], f"normalizer, decoder, model = {kinds}: unknown")
    moot = ("type", "vocab", "merges", "ignore_merges", "fuse_unk", "" if missing else "unk_token")
    all_off("model", model, moot)
    alone = len(added) == 1 and not nfc  # then it does not matter whether it is normalized; GPT-2's is
    for entry in entries:
        moot = ("id", "content", "special", "normalized" if alone else "")
        all_off(f"added token {entry['content']!r:.80}", entry, moot)
    single, first = {bytes([value]): value for value in range(256)}, rf"\A(?:{pattern})"
    return Tokenizer(
        encoding=tiktoken.Encoding("", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}),
        first=tiktoken.Encoding("", pat_str=first, mergeable_ranks=single, special_tokens={}),
        missing=missing,
        nfc=nfc,
        texts=[as_bytes(text) for text in sorted(ids, key=ids.get)],
        added=added,
        plain={entry["content"]: entry["id"] for entry in entries if not entry["special"]},
        n_vocab=len(ids),
    )


def all_off(where: str, found: Mapping[str, Any], moot: Sequence[str]) -> None:
    """Raises ConfigError that names a setting which may change the tokens."""
    for name, value in found.items():
        require(not value or name in moot, f"{where}: {name} = {value!r:.80} is not supported")


def merge_order(model: dict[str, Any], added: Mapping[str, int]) -> dict[bytes, int]:
    """The tokens that tiktoken may make. It merges the pair with the smallest id, whichever two parts it has;
    that is the order of the merges if every token is made by one, and ids follow their order."""
    vocab = model["vocab"]
    merged = list(dict.fromkeys("".join(merge).replace(" ", "") for merge in model["merges"]))
    tokens = [*(char for char in CHARS if char in vocab), *merged]
    wrong = sorted({*tokens} ^ (vocab.keys() - added.keys()))
    require(not wrong, f"tokens {wrong[:3]} are in vocab or made by a merge, but not both")
    ids = [vocab[token] for token in merged]
    require(ids == sorted(ids), "ids in another order than merges are not supported")
    return {as_bytes(token): vocab[token] for token in tokens}


def read_pattern(found: dict[str, Any]) -> str:
    """The regular expression whose matches are the pieces in which pairs merge."""
    moot = {"trim_offsets": None}  # moves no cut
    steps = [step | moot for step in found.get("pretokenizers", [found])]
    steps[-1].setdefault("use_regex", True)
    fitting = [pattern for pattern in PATTERNS if steps == [step | moot for step in steps_of(pattern)]]
    require(fitting, f"pre_tokenizer {found} is none of GPT-2's, SmolLM2's, Qwen's, Llama 3's")
    return fitting[0]


def byte_chars() -> dict[str, int]:
    """GPT-2's characters for bytes: the printable stand for themselves, the others are those from 256 on."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [value for value in range(256) if value not in shown]
    return {chr(value): value for value in shown} | {chr(256 + k): value for k, value in enumerate(hidden)}


CHARS = byte_chars()


def as_bytes(token: str) -> bytes:
    """What a token stands for: bytes, or itself where it was added as it is."""
    return bytes(map(CHARS.get, token)) if CHARS.keys() >= set(token) else token.encode()
