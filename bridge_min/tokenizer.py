"""Text to tokens and back: a `tiktoken.Encoding` whose vocabulary is the 256 bytes, PAD and EOS.

Nothing is downloaded. PAD and EOS are different tokens: a response's end must be sampled, scored and trained,
and where padding lies is known from masks, never from token values.
"""

import tiktoken

PAD, EOS = 256, 257


def byte_tokenizer() -> tiktoken.Encoding:
    return tiktoken.Encoding(
        name="bytes",
        pat_str=r"(?s).",
        mergeable_ranks={bytes([value]): value for value in range(256)},
        special_tokens={"<|pad|>": PAD, "<|end|>": EOS},
    )
