"""A list of prompts as clips: their names, as VBench reads them, and their seeds. Without torch.

VBench looks for `<prompt>-<index>.mp4`, index from 0, in a folder of nothing else: it takes the ending of all files
from one of them. VBench-2.0 cuts prompts at 180 characters.

Source: Huang et al., "VBench" (2024), arXiv 2311.17982: prompts/README.md and vbench/__init__.py of its repository, and
VBench-2.0/vbench2/__init__.py.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s2search.border.regular_file import read_regular_text
from s2search.errors import InputError

_MOST_CHARACTERS = 180  # of a prompt in a name
_MOST_BYTES = 224  # likewise: of 255, less the index, the ending and what a half-written file is called
_NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f]")
_MOST_SAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class AskedClip:
    """A clip to make.

    Attributes:
        file: Its name in the folder.
        prompt: What it shows.
        index: Which of the prompt's samples, from 0.
        seed: Of its noise.
    """

    file: str
    prompt: str
    index: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class PromptList:
    """The prompts of a file, each once.

    Attributes:
        prompts: In their order.
        repeated: How many lines repeat an earlier one.
    """

    prompts: tuple[str, ...]
    repeated: int

    @classmethod
    def read(cls, path: Path) -> PromptList:
        """Read a text file of one prompt a line, as VBench's are; blank lines are left out, and nothing is a comment.

        Raises:
            InputError: It cannot be read, is no UTF-8 text, or has no prompt.
        """
        try:
            text = read_regular_text(path)
        except UnicodeDecodeError:
            raise InputError(f"the prompts {str(path)!r} are no UTF-8 text", remedy="save them as UTF-8") from None
        except OSError as error:
            problem = f"the prompts {str(path)!r} cannot be read: {error.strerror or error}"
            raise InputError(problem, remedy="name a text file of one prompt a line") from error
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        if not lines:
            raise InputError(f"{str(path)!r} has no prompt", remedy="write one prompt a line")
        prompts = tuple(dict.fromkeys(lines))
        return cls(prompts=prompts, repeated=len(lines) - len(prompts))

    def clips(self, samples: int, seed: int) -> tuple[AskedClip, ...]:
        """Return the clips of so many samples per prompt, prompt by prompt.

        Args:
            samples: How many.
            seed: Of all of them: a clip's own depends on it, the prompt and the index alone.

        Raises:
            InputError: There is no such number of samples.
        """
        if not 1 <= samples <= _MOST_SAMPLES:
            raise InputError(
                f"--samples is {samples}", allowed=f"1 to {_MOST_SAMPLES:,}", remedy="VBench reads 5 of each prompt"
            )
        return tuple(
            AskedClip(file=f"{name}-{index}.mp4", prompt=prompt, index=index, seed=clip_seed(seed, prompt, index))
            for name, prompt in zip(_names(self.prompts), self.prompts, strict=True)
            for index in range(samples)
        )


def clip_seed(seed: int, prompt: str, index: int) -> int:
    """Return the seed of a clip: the same whichever clips are made beside it.

    >>> clip_seed(0, "a cat", 0) == clip_seed(0, "a cat", 1)
    False
    """
    digest = hashlib.sha256(f"{seed} {index} {prompt}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def safe_name(prompt: str) -> str:
    """Return a prompt as the beginning of a file's name: itself, where that is one.

    >>> safe_name("a cat. 3/4 view"), safe_name("../a cat")
    ('a cat. 3_4 view', '_._a cat')
    """
    name = _NOT_IN_NAMES.sub("_", prompt)[:_MOST_CHARACTERS]
    name = name.encode()[:_MOST_BYTES].decode(errors="ignore")
    return f"_{name[1:]}" if name.startswith((".", "-", "~")) else name


def _names(prompts: tuple[str, ...]) -> Iterator[str]:
    """Yield a name per prompt; no two are the same, also where capitals and small letters are."""
    taken: set[str] = set()
    for prompt in prompts:
        name = safe_name(prompt)
        if _folded(name) in taken:
            digest = hashlib.sha256(prompt.encode()).hexdigest()
            name = f"{name.encode()[: _MOST_BYTES - 13].decode(errors='ignore')}~{digest[:12]}"
        taken.add(_folded(name))
        yield name


def _folded(name: str) -> str:
    """Return what a file system that does not know capitals, and composes letters, takes a name for."""
    return unicodedata.normalize("NFC", name).casefold()
