"""Models that cannot serve, and machines that cannot run one: what is said, and what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mipp_cli.descriptors.image_model import ImageModel, pin_model
from mipp_cli.errors import InvalidRequestError, MalformedError
from tests.support.tiny_model import PREPROCESSING, SIDE, random_pixels, tiny_model

UNFIT = {
    "a batch beyond memory": (
        {"batch": 1 << 17},
        "takes 131072 pictures at a time, but memory suffices for 65536",
        "export it with a dynamic batch size",
    ),
    "a batch beyond any number": (
        {"batch": 1 << 40},
        f"takes {1 << 40} pictures at a time",
        "export it with a dynamic batch size",
    ),
    "takes words, too": (
        {"more_inputs": ("input_ids", "attention_mask")},
        "takes 3 inputs (pixels, input_ids, attention_mask), not only pictures",
        "such as vision_model.onnx",
    ),
    "channels last": (
        {"shape": (SIDE, SIDE, 3)},
        "takes tensor(float) of shape ['n', 16, 16, 3], but its preprocessing gives (…, 3, 16, 16)",
        "use a model with a float input, channels first, of the size",
    ),
    "another size": (
        {"preprocessing": PREPROCESSING | {"size": {"height": 16, "width": 17}}},
        "but its preprocessing gives (…, 3, 16, 17)",
        "of the size that its preprocessing gives",
    ),
    "whole numbers": (
        {"input_type": "uint8"},
        "takes tensor(uint8) of shape",
        "use a model with a float input",
    ),
    "double": ({"input_type": "double"}, "takes tensor(double) of shape", "use a model with a float input"),
    "two vectors": (
        {"outputs": {"one": "vector", "two": "vector"}},
        "does not have exactly one output with a vector per picture",
        "--model-output; it has: one, two",
    ),
    "no vector": ({"outputs": {"grid": "tokens"}}, "does not have exactly one output", "it has: grid"),
    "no floats": (
        {"outputs": {"image_embeds": "whole"}},
        "does not have exactly one output",
        "it has: no float output",
    ),
    "zeros": (
        {"fault": "zeros"},
        "gives an output image_embeds that is not finite or all zeros for a test picture",
        "another output with --model-output",
    ),
    "beyond 32 bits": (
        {"fault": "huge", "output_type": "double"},
        "gives an output image_embeds that is not finite or all zeros for a test picture",
        "16-bit floats may overflow",
    ),
    "beyond 16 bits": (
        {"input_type": "float16", "preprocessing": PREPROCESSING | {"image_std": [1e-6] * 3}},
        "gives an output image_embeds that is not finite or all zeros for a test picture",
        "try its 32-bit export",
    ),
    "no tokens": (
        {"outputs": {"last_hidden_state": "none"}},
        "gives last_hidden_state of shape (2, 0, 24) for 2 pictures, not one vector each",
        "an output with one vector per picture",
    ),
    "too few numbers": ({"dimension": 2}, "the descriptor's dimension cannot be 2", "3 to 65535"),
    "too many numbers": (
        {"dimension": 65536},
        "the descriptor's dimension cannot be 65536",
        "3 to 65535",
    ),
}


@pytest.mark.parametrize("what", UNFIT)
def test_a_model_that_cannot_serve_is_refused(tmp_path: Path, what: str) -> None:
    options, message, hint = UNFIT[what]
    path = tiny_model(tmp_path, **options)
    with pytest.raises(InvalidRequestError) as error:
        pin_model(path)
    assert message in error.value.message
    assert hint in str(error.value.hint)
    assert error.value.path == str(path)


def test_the_mean_of_infinite_tokens_is_refused(tmp_path: Path) -> None:
    path = tiny_model(tmp_path, outputs={"last_hidden_state": "tokens"}, fault="huge")
    with pytest.raises(InvalidRequestError, match="gives an output last_hidden_state that is not finite"):
        pin_model(path, pooling="mean")


@pytest.mark.parametrize(
    ("kind", "options", "message", "hint"),
    [
        ("vector", {"output": "missing"}, "has no output 'missing'", "it has: image_embeds"),
        ("whole", {"output": "image_embeds"}, "has no output 'image_embeds'", "it has: no float output"),
        (
            "vector",
            {"pooling": "mean"},
            "gives image_embeds as one vector per picture, without tokens",
            "leave out --model-pooling",
        ),
        ("map", {"pooling": "cls"}, "gives image_embeds as one vector", "leave out --model-pooling"),
    ],
)
def test_an_output_that_cannot_be_had_is_refused(
    tmp_path: Path, kind: str, options: dict[str, str], message: str, hint: str
) -> None:
    path = tiny_model(tmp_path, outputs={"image_embeds": kind})
    with pytest.raises(InvalidRequestError) as error:
        pin_model(path, **options)
    assert message in error.value.message
    assert hint in str(error.value.hint)


@pytest.mark.parametrize("content", [b"", b"\x08\x01", b"\x3a\x00"])
def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tiny_model(tmp_path)
    path.write_bytes(content)
    with pytest.raises(MalformedError, match="could not be opened") as error:
        pin_model(path)
    assert error.value.hint
    assert error.value.message.isprintable()


@pytest.mark.parametrize("count", [1, 5])
def test_an_output_whose_length_changes_is_refused(tmp_path: Path, count: int) -> None:
    path = tiny_model(tmp_path, outputs={"image_embeds": "wide"})
    model = ImageModel(path, pin_model(path))
    with pytest.raises(MalformedError, match=r"gives 2 numbers for a picture|of several lengths") as error:
        model.codes(random_pixels(count))
    assert error.value.path == str(path)


def test_a_model_that_went_away_is_missed(tmp_path: Path) -> None:
    model = ImageModel(tmp_path, pin_model(tiny_model(tmp_path)))
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(InvalidRequestError, match=r"contains no \.onnx file"):
        model.check()


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tiny_model(tmp_path)
    with pytest.raises(InvalidRequestError, match="onnxruntime cannot use cuda on this machine") as error:
        ImageModel(path, pin_model(path), device="cuda").check()
    assert "pip install onnxruntime-gpu" in str(error.value.hint)
    assert "leave out --device" in str(error.value.hint)


def test_without_onnxruntime_its_package_is_named(tmp_path: Path) -> None:
    words = ["kmc", "init", str(tmp_path / "kmc"), "--model", str(tiny_model(tmp_path / "model"))]
    code = "import sys; sys.modules['onnxruntime'] = None; from mipp_cli.cli.entry import main; main()"
    ran = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "an image model needs onnxruntime, which is not installed" in ran.stderr
    assert "hint: pip install onnxruntime" in ran.stderr
    assert not (tmp_path / "kmc").exists()


def test_the_library_prints_nothing_of_a_damaged_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tiny_model(tmp_path)
    file.write_bytes(file.read_bytes().replace(b"MatMul", b"Ma\xffMul"))
    with pytest.raises(MalformedError, match="could not be opened"):
        pin_model(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_model_is_read_as_onnx_whatever_it_begins_with(tmp_path: Path) -> None:
    expected = pin_model(tiny_model(tmp_path))
    file = tmp_path / "model.onnx"
    unknown_field = b"\xa2\x06\x10" + b".ORTM".ljust(16, b".")  # by which ONNX Runtime knows its own format
    file.write_bytes(unknown_field + file.read_bytes())
    assert pin_model(file).l == expected.l
