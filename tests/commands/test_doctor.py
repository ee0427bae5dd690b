from pathlib import Path

from click.testing import CliRunner

from distort_pipeline.cli import main
from distort_pipeline.commands.inputs import PRETRAINED


def nobody():
    raise RuntimeError("Could not determine home directory.")


def test_doctor_works_for_a_user_without_a_home(monkeypatch):
    monkeypatch.setattr(Path, "home", staticmethod(nobody))
    assert f"in {PRETRAINED}" in CliRunner().invoke(main, ["doctor"]).output


def test_only_a_leading_home_is_abbreviated(monkeypatch):
    monkeypatch.setattr(Path, "home", staticmethod(lambda: PRETRAINED.parent))
    assert "in ~/pretrained" in CliRunner().invoke(main, ["doctor"]).output
    monkeypatch.setattr(Path, "home", staticmethod(lambda: Path(PRETRAINED.anchor)))  # of containers
    assert f"in {PRETRAINED}" in CliRunner().invoke(main, ["doctor"]).output
