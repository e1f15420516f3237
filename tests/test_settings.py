from dataclasses import dataclass

import pytest

from services.settings import SettingError, from_env


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    name: str
    workers: int = 2
    share: float = 0.5
    fast: bool = False
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"ROOM_WORKERS must be positive, got {self.workers}")


def read(**variables: str) -> Config:
    return from_env(Config, "ROOM", variables)


def test_absent_variables_keep_their_defaults() -> None:
    assert read(ROOM_NAME="a") == Config(name="a")


def test_every_type_is_read() -> None:
    given = read(
        ROOM_NAME="a=b", ROOM_WORKERS="3", ROOM_SHARE="1e-3", ROOM_FAST="1", ROOM_MODELS="x,,y,"
    )
    assert given == Config(name="a=b", workers=3, share=0.001, fast=True, models=("x", "y"))


def test_other_programs_variables_are_left_alone() -> None:
    others = {"PATH": "/bin", "ROOMS_PARALLEL": "1", "ROOM": "2", "BATHROOM_NAME": "x"}
    assert read(ROOM_NAME="a", **others) == Config(name="a")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        pytest.param({}, "ROOM_NAME must be set", id="required"),
        pytest.param({"ROOM_WORKERS": "many"}, "ROOM_WORKERS must be", id="no-number"),
        pytest.param({"ROOM_WORKERS": "1.5"}, "ROOM_WORKERS must be", id="no-whole-number"),
        pytest.param({"ROOM_WORKERS": ""}, "ROOM_WORKERS must be", id="empty-is-no-number"),
        pytest.param({"ROOM_SHARE": "half"}, "ROOM_SHARE must be", id="no-float"),
        pytest.param({"ROOM_FAST": "yes"}, "ROOM_FAST must be", id="no-flag"),
        pytest.param({"ROOM_WORKERS": "0"}, "ROOM_WORKERS must be positive", id="refused-by-it"),
        pytest.param(
            {"ROOM_SPEED": "1"},
            "ROOM_SPEED is no setting; known are ROOM_FAST, ROOM_MODELS, ROOM_NAME",
            id="unknown",
        ),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(variables: dict[str, str], says: str) -> None:
    name = {} if says.startswith("ROOM_NAME") else {"ROOM_NAME": "a"}
    with pytest.raises(SettingError) as error:
        read(**name, **variables)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
