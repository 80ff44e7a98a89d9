"""What a command leaves behind when Ctrl-C ends it, by the words of the command."""

from __future__ import annotations

from collections.abc import Sequence

_GOES_ON = "are kept: the same command goes on where it stopped"
_KEPT = {
    "measure": f"the samples so far {_GOES_ON}",
    "sensitivity": f"the figures so far {_GOES_ON}",
    "recalibrate": f"the packages and samples so far {_GOES_ON}",
    "cache make": f"the shards so far {_GOES_ON}",
    "distance measure": f"the samples so far {_GOES_ON}",
    "data make": f"the shards so far {_GOES_ON}",
    "run": "the stages so far, and what the last one had done, are kept: the same command goes on where it stopped",
    "train": "the steps so far are kept: the same command goes on where it stopped",
    "train compare": f"the runs and steps so far {_GOES_ON}",
    "score check": f"the layouts so far {_GOES_ON}",
    "score measure": f"the layers so far {_GOES_ON}",
    "kit build": f"the packages so far {_GOES_ON}",
    "kit ingest": "the tables so far are kept: the same command makes the others",
    "table retabulate": "the samples are kept: repeat the command",
    "export": "nothing is left of the package: repeat the command",
    "verify": "nothing was written: repeat the command",
    "stream": "nothing is left of the video: the first Ctrl-C lets a chunk that has begun end, and keeps what is there",
}
_CLIPS = f"the clips so far {_GOES_ON}"
_WHOLE = "files are written whole or not at all: repeat the command"


def kept(arguments: Sequence[str]) -> str:
    """Return in words what is kept of a command.

    >>> kept(["measure", "--out", "mine"])
    'the samples so far are kept: the same command goes on where it stopped'
    >>> kept(["plan", "--budget", "10fps"])
    'files are written whole or not at all: repeat the command'
    """
    if arguments[:1] in (["stream"], ("stream",)) and any(word.split("=")[0] == "--prompts" for word in arguments):
        return _CLIPS
    return next((_KEPT[words] for words in (" ".join(arguments[:2]), *arguments[:1]) if words in _KEPT), _WHOLE)
