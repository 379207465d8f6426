"""Text to tokens and back, by `tiktoken`: the 256 bytes for the toys, a folder's tokenizer.json for others.

Nothing is downloaded. The ids are Hugging Face's, without what it may put around a text (post_processor,
padding, truncation); anything else that a file asks for and that is not done here is refused by name. A
response's end must be sampled, scored and trained, so its token is never the one that fills up rows: where
padding lies is known from masks, never from token values.
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tiktoken

PAD, EOS = 256, 257  # of the byte tokenizer
BYTES = {bytes([value]): value for value in range(256)}
LIMIT = 1 << 24  # no vocabulary is larger; a list of that length still fits


class TokenizerError(ValueError):
    """A tokenizer that cannot be used; the message names the file and what in it is at fault."""


@dataclass(frozen=True)
class Added:
    """A token that is taken out of a text before the rest is split: always one token."""

    content: str
    id: int
    special: bool = True  # only a prompt can hold it
    normalized: bool = False  # looked for after the text was normalised, not before


@dataclass(frozen=True)
class Tokenizer:
    encoding: tiktoken.Encoding  # its tokens are ranks, the order in which pairs merge
    texts: Sequence[bytes]  # of every token; b"" where an id has none
    added: tuple[Added, ...]
    ends: tuple[int, ...]  # tokens that end a response; a demonstration is ended by the first
    ids: Sequence[int] | None = None  # of every rank, where they differ
    nfc: bool = False
    missing: bytes = b""  # bytes without a token
    first: tiktoken.Encoding | None = None  # a text's first piece in bytes; where bytes are missing

    @property
    def n_vocab(self) -> int:
        """One more than the largest token."""
        return len(self.texts)

    def encode(self, text: str) -> list[int]:
        """The tokens of a prompt: special tokens that are written in it are tokens."""
        return self._encode(text, self.added)

    def encode_response(self, text: str) -> list[int]:
        """The tokens of a response, and its end: the text of a special token, or of an end, is only text."""
        added = [token for token in self.added if not token.special and token.id not in self.ends]
        return self._encode(text, added) + [self.ends[0]]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of any tokens: one that does not exist has none, broken UTF-8 becomes U+FFFD."""
        n_vocab = self.n_vocab
        return b"".join([self.texts[t] for t in tokens if 0 <= t < n_vocab]).decode("utf-8", "replace")

    def _encode(self, text: str, added: Sequence[Added]) -> list[int]:
        raw = {token.content: token.id for token in added if not token.normalized}
        normalized = {self._normalize(token.content): token.id for token in added if token.normalized}
        tokens: list[int] = []
        for part in cut(text, raw):
            # NFC could join a token's last character to the next one, so it comes after the cut
            pieces = [part] if isinstance(part, int) else cut(self._normalize(part), normalized)
            for piece in pieces:
                tokens += [piece] if isinstance(piece, int) else self._merge(piece)
        return tokens

    def _normalize(self, text: str) -> str:
        return unicodedata.normalize("NFC", text) if self.nfc else text

    def _merge(self, text: str) -> list[int]:
        if self.missing:  # lone surrogates as tiktoken has them
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if not self.missing or (data := text.encode()) == data.translate(None, self.missing):
            ranks = self.encoding.encode_ordinary(text)
        else:  # Hugging Face drops these bytes between splitting and merging; tiktoken would panic
            kept = [piece.translate(None, self.missing) for piece in split(self.first, text)]
            ranks = [rank for piece in kept if piece for rank in self.encoding._encode_single_piece(piece)]
        return ranks if self.ids is None else [self.ids[rank] for rank in ranks]


def cut(text: str, added: Mapping[str, int]) -> Iterator[str | int]:
    """The text in parts, added tokens as their ids: the leftmost is taken and, of those, the longest."""
    start, present = 0, [token for token in added if token in text]
    while found := [(at, -len(token), token) for token in present if (at := text.find(token, start)) >= 0]:
        at, _, token = min(found)
        yield text[start:at]
        yield added[token]
        start = at + len(token)
    yield text[start:]


def split(first: tiktoken.Encoding, text: str) -> Iterator[bytes]:
    """The pieces in which pairs merge. tiktoken does not show them, so each is asked for in turn: slow."""
    while text:
        piece = bytes(first.encode_ordinary(text))
        yield piece
        text = text[len(piece.decode()) :]


def byte_tokenizer() -> Tokenizer:
    added = (Added("<|pad|>", PAD), Added("<|end|>", EOS))
    return Tokenizer(byte_encoding(r"(?s)."), [*BYTES, b"<|pad|>", b"<|end|>"], added, (EOS,))


def byte_encoding(pattern: str) -> tiktoken.Encoding:
    return tiktoken.Encoding("bytes", pat_str=pattern, mergeable_ranks=BYTES, special_tokens={})


# --- a folder in Hugging Face's format ----------------------------------------------------------------------

WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|"
GPT2 = WORDS + r" ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGITS = WORDS + r"\p{N}%s| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"  # cut around numbers, then GPT2

# What a setting may be, None: anything. A setting that is not named here may change the tokens.
MODEL = {"type": ("BPE",), "dropout": (None, 0), "byte_fallback": (False,), "ignore_merges": (False, True)}
MODEL |= dict.fromkeys(("continuing_subword_prefix", "end_of_word_suffix"), (None, ""))
MODEL |= dict.fromkeys(("unk_token", "fuse_unk", "vocab", "merges"))
ADDED = dict.fromkeys(("single_word", "lstrip", "rstrip"), (False,))
ADDED |= dict.fromkeys(("id", "content", "special", "normalized"))
STEPS = {
    "ByteLevel": {"add_prefix_space": (False,), "use_regex": (False, True), "trim_offsets": None},
    "Digits": {"individual_digits": (False, True)},
    "Split": {"pattern": None, "behavior": ("Isolated",), "invert": (False,)},
}


def load_tokenizer(folder: Path, end: Sequence[str] = ()) -> Tokenizer:
    """The tokenizer of a folder with tokenizer.json: byte-level BPE, as it was trained, or as transformers
    made it from tiktoken's. `end`: texts of the tokens that end a response, if not those that the folder
    names. Raises TokenizerError."""
    path = folder / "tokenizer.json"
    settings = read_json(path)
    try:
        tokenizer = build(path, settings)
    except TokenizerError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TokenizerError(f"{path} is broken: {type(error).__name__}: {error}") from error
    ends = named_ends(tokenizer, [end] if isinstance(end, str) else end, "end")
    return replace(tokenizer, ends=ends or folder_ends(tokenizer, folder))


def build(path: Path, settings: dict[str, Any]) -> Tokenizer:
    """All but the ends."""
    model = settings["model"]
    check(f"{path}: model", model, MODEL)
    if (settings.get("decoder") or {}).get("type", "ByteLevel") != "ByteLevel":
        raise TokenizerError(f"{path}: decoder {settings['decoder']['type']} is not supported")
    added = read_added(path, settings.get("added_tokens") or [], model["vocab"])
    texts = read_texts(path, model["vocab"], {token.content: token.id for token in added})
    single, merged = merge_order(path, model, {token.content for token in added})
    ids = [model["vocab"][token] for token in single + merged]
    ordered = ids[len(single) :] == sorted(ids[len(single) :])  # single bytes are no result of merging
    ranks = dict(zip(map(as_bytes, single + merged), ids if ordered else range(len(ids)), strict=True))
    missing = bytes(byte[0] for byte in BYTES if byte not in ranks)
    if missing and model.get("unk_token") is not None:
        raise TokenizerError(f"{path}: model.unk_token is not supported where single bytes have no token")
    pattern = read_pattern(path, settings.get("pre_tokenizer") or {})
    return Tokenizer(
        tiktoken.Encoding(str(path), pat_str=pattern, mergeable_ranks=ranks, special_tokens={}),
        texts,
        added,
        ends=(),
        ids=None if ordered else ids,
        nfc=read_nfc(path, settings.get("normalizer")),
        missing=missing,
        first=byte_encoding(rf"\A(?:{pattern})") if missing else None,
    )


def check(where: str, found: Mapping[str, Any], allowed: Mapping[str, tuple | None]) -> None:
    for name, value in found.items():
        if name not in allowed or (allowed[name] is not None and value not in allowed[name]):
            raise TokenizerError(f"{where}: {name} = {value!r:.80} is not supported")


def read_added(path: Path, entries: list[dict[str, Any]], vocab: Mapping[str, int]) -> tuple[Added, ...]:
    added, following = [], len(vocab)
    for entry in entries:
        token = Added(*(entry[name] for name in ("content", "id", "special", "normalized")))
        where = f"{path}: added token {token.content!r:.80}"
        check(where, entry, ADDED)
        expected = vocab.get(token.content, following)
        if token.id != expected or not token.content:
            raise TokenizerError(f"{where} has id {token.id!r}; Hugging Face would make it {expected}")
        following = max(following, token.id + 1)
        added.append(token)
    return tuple(added)


def read_texts(path: Path, vocab: dict[str, int], added: dict[str, int]) -> list[bytes]:
    ids = vocab | added
    texts = [b""] * (max(ids.values()) + 1) if max(ids.values()) < LIMIT else []
    for token, k in ids.items():
        if not token or not 0 <= k < len(texts) or texts[k]:
            raise TokenizerError(f"{path}: token {token!r:.80} has id {k!r}, which is taken or out of range")
        texts[k] = as_bytes(token) if token in vocab else token.encode()
    return texts


def merge_order(path: Path, model: dict[str, Any], added: set[str]) -> tuple[list[str], list[str]]:
    """The tokens for single bytes, and the others that tiktoken may make, in the order of their merges."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    vocab, merged = model["vocab"], dict.fromkeys(left + right for left, right in pairs)
    for token in {*merged, *(part for pair in pairs for part in pair)}:
        if token not in vocab or not CHARS.keys() >= set(token):
            raise TokenizerError(f"{path}: token {token!r:.80} of a merge is not in vocab, or not byte-level")
    known = {*CHARS, *merged}
    if model.get("ignore_merges"):  # then a piece that is a token is that token, can it be merged or not
        for token in sorted(vocab.keys() - known - added, key=vocab.get):
            if any(token[:k] in known and token[k:] in known for k in range(1, len(token))):
                raise TokenizerError(
                    f"{path}: ignore_merges is not supported with {token!r:.80}: no merge makes it"
                )
            if CHARS.keys() >= set(token):
                merged[token] = None
    return [char for char in CHARS if char in vocab], list(merged)


def read_pattern(path: Path, found: dict[str, Any]) -> str:
    """The regular expression whose matches are the pieces in which pairs merge."""
    where, steps = f"{path}: pre_tokenizer", found.get("pretokenizers", [found])
    kinds = [step.get("type") for step in steps]
    if kinds not in (["ByteLevel"], ["Digits", "ByteLevel"], ["Split", "ByteLevel"]):
        raise TokenizerError(f"{where} {kinds} is not supported")
    for step in steps:
        check(f"{where}: {step['type']}", step, {"type": None} | STEPS[step["type"]])
    if steps[-1].get("use_regex", True) == (kinds[0] == "Split"):
        raise TokenizerError(f"{where} {kinds} with use_regex {kinds[0] == 'Split'} is not supported")
    if kinds[0] == "ByteLevel":
        return GPT2
    if kinds[0] == "Digits":
        return DIGITS % ("" if steps[0]["individual_digits"] else "+")
    [(kind, pattern)] = steps[0]["pattern"].items()
    if kind == "String":
        pattern = "".join(rf"\x{{{ord(char):x}}}" for char in pattern)
    if byte_encoding(rf"(?s).(?=(?:{pattern})\z)").encode_ordinary("x"):
        raise TokenizerError(f"{where}: pattern {pattern!r:.80} matches the empty text")
    return rf"(?:{pattern})|(?s:(?:(?!{pattern}).)+)"  # tiktoken would leave out what does not match


def read_nfc(path: Path, found: dict[str, Any] | None) -> bool:
    kinds = [step["type"] for step in found.get("normalizers", [found])] if found else []
    if {*kinds} - {"NFC"}:
        raise TokenizerError(f"{path}: normalizer {kinds} is not supported, only NFC is")
    return bool(kinds)


def named_ends(tokenizer: Tokenizer, end: Sequence[str], where: str) -> tuple[int, ...]:
    ends = []
    for text in end:
        tokens = tokenizer.encode(text)
        if len(tokens) != 1 or tokenizer.decode(tokens) != text:
            raise TokenizerError(f"{where}: {text!r:.80} is not one token, it is {tokens}")
        ends += tokens
    return tuple(ends)


def folder_ends(tokenizer: Tokenizer, folder: Path) -> tuple[int, ...]:
    for name in ("generation_config.json", "config.json"):
        found = read_json(folder / name).get("eos_token_id") if (folder / name).exists() else None
        ends = found if isinstance(found, list) else [] if found is None else [found]
        for end in ends:
            if type(end) is not int or not 0 <= end < tokenizer.n_vocab or not tokenizer.texts[end]:
                raise TokenizerError(f"{folder / name}: eos_token_id {end!r:.80} is no token")
        if ends:
            return tuple(ends)
    path = folder / "tokenizer_config.json"
    found = read_json(path).get("eos_token") if path.exists() else None
    found = found.get("content") if isinstance(found, dict) else found
    if isinstance(found, str):
        return named_ends(tokenizer, [found], f"{path}: eos_token")
    raise TokenizerError(f"{folder}: no file names the token that ends a response; set end= to its text")


def read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise TokenizerError(f"{path} is no JSON object")
    return found


def byte_chars() -> dict[str, int]:
    """GPT-2's characters for bytes: the printable stand for themselves, the others are those from 256 on."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [value for value in range(256) if value not in shown]
    return {chr(value): value for value in shown} | {chr(256 + k): value for k, value in enumerate(hidden)}


CHARS = byte_chars()


def as_bytes(token: str) -> bytes:
    """What a token of the vocabulary stands for: bytes, or itself where it was put there as it is."""
    return bytes(map(CHARS.get, token)) if CHARS.keys() >= set(token) else token.encode()
