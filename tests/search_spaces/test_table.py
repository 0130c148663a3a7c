"""Finding a space by name, module or file, and what is said when there is none."""

import sys

import pytest

from search_spaces.arms import Study
from search_spaces.table import SPACES, load_space
from trainables.config import InputError

OWN_SPACE = """
from search_spaces.arms import Arm, Categorical, Parameter, Study

RATE = Parameter("optimizer.learning_rate", Categorical((0.1, 0.01)))
FIXED = {"loss": "mse", "optimizer": "sgd", "model": "mlp", "batch_size": 32, "epochs": 5}
STUDY = Study("own", "Does it load?", "loss", (Arm("mse", FIXED, (RATE,)),), "mse")
"""


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def test_every_line_of_the_table_loads_a_space_of_that_name():
    assert {name: load_space(name).name for name in SPACES} == {name: name for name in SPACES}


@pytest.mark.parametrize("name", ["own_space_file.py", "./own_space_file.py"])
def test_space_is_loaded_from_a_file(working_directory, name):
    (working_directory / "own_space_file.py").write_text(OWN_SPACE)
    assert load_space(name).question == "Does it load?"


def test_file_of_a_space_imports_what_stands_beside_it(working_directory):
    folder = working_directory / "elsewhere"
    folder.mkdir()
    (folder / "neighbour_of_a_space.py").write_text("TRIALS = 7\n")
    (folder / "space.py").write_text(
        f"from neighbour_of_a_space import TRIALS\n{OWN_SPACE}\nimport dataclasses\n"
        "STUDY = dataclasses.replace(STUDY, trials=TRIALS)\n"
    )
    assert load_space(str(folder / "space.py")).trials == 7


def test_space_is_loaded_from_a_module_under_any_name(working_directory):
    (working_directory / "own_space_module.py").write_text(f"{OWN_SPACE}\nOTHER = STUDY\n")
    assert isinstance(load_space("own_space_module:OTHER"), Study)


@pytest.mark.parametrize("name", ["fulll", "", "full:", ":STUDY", "FULL"])
def test_unknown_space_is_refused_with_the_choices(name):
    with pytest.raises(InputError, match=rf"Unknown space '{name}'; choose from full, smoke, loss_by_optimizer,"):
        load_space(name)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("STUDY = (", "cannot be loaded: SyntaxError"),
        ("import a_module_that_nobody_has", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
        ("raise RuntimeError('first line\\nsecond line')", "RuntimeError: first line$"),
        ("raise RuntimeError", "cannot be loaded: RuntimeError"),
        ("OTHER = 1", "AttributeError: .*has no attribute 'STUDY'"),
        ("STUDY = 'full'", "must be a search_spaces.arms.Study; got str"),
        (OWN_SPACE.replace("0.01", "0.0"), r"Arm 'mse': `optimizer.learning_rate` must be .* > 0; got 0.0"),
        (OWN_SPACE.replace('(Arm("mse", FIXED, (RATE,)),)', "()"), "Space '.*': The space 'own' has no arms"),
    ],
)
def test_file_that_is_no_space_is_refused_on_one_line(working_directory, content, says):
    (working_directory / "broken_space.py").write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        load_space("broken_space.py")
    assert "broken_space.py" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere.py", "FileNotFoundError: no file 'nowhere.py'"),
        ("nowhere_at_all:STUDY", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("search_spaces.full:QUESTION", "AttributeError: .*'QUESTION'"),
        ("search_spaces.full:LOSSES", "must be a search_spaces.arms.Study; got dict"),
    ],
)
def test_space_that_is_not_there_is_refused(name, says):
    with pytest.raises(InputError, match=says):
        load_space(name)
