"""Command lines that the front door refuses: what would be taken for something else."""

import pytest

from zobench.config.folders import conf_dir
from zobench.config.overrides import FrontDoor
from zobench.config.settings import check_settings
from zobench.config.signature import compose
from zobench.errors import ConfigError


def test_an_option_of_ones_own_may_not_bear_the_name_of_one_that_ships(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mezo.yaml").write_text("# Mine\n_target_: mine.MeZO\n")
    with pytest.raises(
        ConfigError, match="method=mezo ships with zobench, which would be taken; give this file another"
    ):
        FrontDoor([conf_dir(), tmp_path]).check(["method=mezo"])
    (tmp_path / "method" / "mezo.yaml").rename(tmp_path / "method" / "mine.yaml")
    FrontDoor([conf_dir(), tmp_path]).check(["method=mine"])


@pytest.mark.parametrize("mark", ["", "+", "++"])
def test_what_was_chosen_is_not_a_setting(mark):
    with pytest.raises(ConfigError, match="it only tells what was chosen; choose with method=loren"):
        FrontDoor([conf_dir()]).check([f"{mark}choices.method=loren"])


def test_a_seed_that_others_follow_is_complained_about_once():
    with pytest.raises(ConfigError) as said:
        check_settings(compose("seed=-1"))
    assert str(said.value) == "seed=-1: expected an integer of at least 0"


def test_a_lens_that_is_a_number_is_told_its_keys():
    with pytest.raises(ConfigError, match=r"^lens=5: expected its keys, such as lens\.every=200$"):
        check_settings(compose("lens=5"))
