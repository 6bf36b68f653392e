from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.inference.hub import ModelUnavailable
from stenobird.translation.models import find_on_disk, read_vocabulary, resolve
from tests.support.translation_model import write_translation_model

if TYPE_CHECKING:
    from pathlib import Path


def nothing_downloaded(done: int, wanted: int) -> None:
    raise AssertionError(f"{done} of {wanted} bytes were downloaded")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is out of reach, as HF_HUB_OFFLINE makes it for a whole process."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def cached(cache: Path) -> Path:
    """Lay out a model as the hub's cache does."""
    folder = cache / "models--someone--model"
    snapshot = folder / "snapshots" / "abc"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    write_translation_model(snapshot)
    return snapshot


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    write_translation_model(tmp_path)

    assert resolve(str(tmp_path), cache_dir=None, progress=nothing_downloaded) == tmp_path
    assert find_on_disk(str(tmp_path)) == tmp_path


def test_everything_that_a_folder_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        find_on_disk(str(tmp_path))

    for name in ("model.bin", "shared_vocabulary.json", "tokenizer.json or sentencepiece.bpe.model"):
        assert name in str(caught.value)
    assert not caught.value.retry


@pytest.mark.parametrize("name", ["nllb", "/no/folder", "~/nothing", "a/b/c", "./x"])
def test_a_name_that_is_neither_folder_nor_repository_is_reported(name: str) -> None:
    with pytest.raises(ModelUnavailable, match="STENOBIRD_TRANSLATION_MODEL"):
        find_on_disk(name)


def test_a_repository_is_found_in_the_cache(tmp_path: Path) -> None:
    snapshot = cached(tmp_path)

    assert find_on_disk("someone/model", cache_dir=str(tmp_path)) == snapshot
    assert resolve("someone/model", cache_dir=str(tmp_path), progress=nothing_downloaded) == snapshot


def test_a_half_downloaded_model_is_not_taken_for_one(tmp_path: Path) -> None:
    (cached(tmp_path) / "model.bin").unlink()

    assert find_on_disk("someone/model", cache_dir=str(tmp_path)) is None
    with pytest.raises(ModelUnavailable) as caught:
        resolve("someone/model", cache_dir=str(tmp_path), progress=nothing_downloaded)
    assert caught.value.offline


@pytest.mark.parametrize("suffix", ["json", "txt"])
def test_both_kinds_of_vocabulary_are_read(tmp_path: Path, suffix: str) -> None:
    write_translation_model(tmp_path)
    tokens = read_vocabulary(tmp_path)
    if suffix == "txt":  # as CTranslate2 wrote it before its version 4
        (tmp_path / "shared_vocabulary.json").unlink()
        (tmp_path / "shared_vocabulary.txt").write_text("\n".join(sorted(tokens)) + "\n", encoding="utf-8")

    assert {"heb_Hebr", "</s>", "ק"} <= read_vocabulary(tmp_path)
