import sys

import pytest

from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Registry


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that makes a package of a registry and the given files; returns the registry."""

    def make(**files):
        folder = tmp_path / "shapes"
        folder.mkdir()
        (folder / "__init__.py").write_text(
            "from distort_pipeline.records import Registry\nSHAPES = Registry('shape', 'shapes', group='shapes')\n",
            encoding="utf-8",
        )
        for name, text in files.items():
            (folder / f"{name}.py").write_text(f"from shapes import SHAPES\n{text}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        import shapes

        return shapes.SHAPES

    yield make
    for name in [name for name in sys.modules if name.split(".")[0] == "shapes"]:
        del sys.modules[name]


def test_a_file_in_the_folder_is_all_that_an_entry_needs(package):
    shapes = package(a="@SHAPES.add('square')\ndef square(): return 4", b="SHAPES.add('circle')(0)", helpers="")
    assert shapes.names() == ("circle", "square")
    assert shapes.get("square")() == 4


def test_an_unknown_name_is_answered_with_the_nearest(package):
    shapes = package(a="SHAPES.add('square')(4)")
    with pytest.raises(PipelineError, match=r"no shape is called 'sqare'; did you mean square\?"):
        shapes.get("sqare")
    with pytest.raises(PipelineError, match="known are: square"):
        shapes.get("zzz")


def test_a_file_that_fails_to_import_stops_every_request(package):
    shapes = package(a="SHAPES.add('square')(4)", b="import no_such_library_at_all")
    for _ in range(2):  # a second request must not see half a folder
        with pytest.raises(ModuleNotFoundError, match="no_such_library_at_all"):
            shapes.get("square")


def test_two_entries_of_one_name_are_our_mistake():
    shapes = Registry[int]("shape", "shapes", group="shapes")
    shapes.add("square")(4)
    with pytest.raises(ValueError, match="two shapes are called 'square'"):
        shapes.add("square")(5)
