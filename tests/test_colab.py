"""What scripts/colab.py holds of the image's versions; the notebooks themselves run in its workflow."""

import pytest

from tests import load_script


@pytest.fixture
def colab():
    return load_script("colab")


def test_versions_are_held_and_torch_without_its_cuda_build(colab):
    freeze = """# a comment
numpy==2.0.2
torch @ https://download.pytorch.org/whl/cu126/torch-2.9.0%2Bcu126-cp312-cp312-manylinux_2_28_x86_64.whl#sha256=ab
torchaudio==2.9.0+cu126
google-colab @ file:///colabtools/dist/google_colab-1.0.0.tar.gz
scikit-learn==1.6.1
"""
    assert colab.constraints(freeze) == [
        "numpy==2.0.2",
        "scikit-learn==1.6.1",
        "torch==2.9.0",
        "torchaudio==2.9.0",
    ]


def test_a_list_without_torch_is_refused(colab, tmp_path, capsys):
    (tmp_path / "freeze.txt").write_text("numpy==2.0.2\ntransformers==4.57.1\n")
    assert (
        colab.main([str(tmp_path / "freeze.txt")]) == 2
        and "has no version of torch" in capsys.readouterr().err
    )


def test_more_than_one_list_says_what_is_accepted(colab, capsys):
    assert colab.main(["a", "b"]) == 2 and "accepted is one file or address" in capsys.readouterr().err
