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


@pytest.mark.parametrize(
    "word",
    ["method=choice(mezo,loren)", "method=glob(m*)", "method=glob([m*,k*])",
     "method='glob(*,exclude=[adamw,zeroshot])'", "method=sort(mezo,loren)", "method=shuffle(mezo,loren)"],
)  # fmt: skip
def test_options_may_be_named_by_hydras_functions(word):
    FrontDoor([conf_dir()]).check(["-m", word, "method.eps=1e-3"])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("method=choice(mezo,mezzo)", "method=mezzo: no such method; did you mean method=mezo"),
        ("method=tezo_m method/rule=adam", "method/rule=adam: method=tezo_m leaves no rule to choose; see its file"),
        ("method=mezo,adamw method/rule=adam", "method/rule=adam: method=adamw leaves no rule to choose"),
        ("method=forward_gradient method.eps=1", "no such key for method=forward_gradient, which has lr, lr_schedule"),
        ("method=mezo_svrg method.rule.beta=1", "no such key for method=mezo_svrg, which has anneal, draws"),
        ("method=glob(x*)", r"method=x\*: no such method"),
        ("method=[mezo]", r"method=\[mezo\]: no such method; did you mean method=mezo"),
        ("+experiment=quickstart", r"^\+experiment=quickstart: .* choose with experiment=quickstart$"),
    ],
)
def test_options_that_are_named_amiss_are_told_the_right_name(word, said):
    with pytest.raises(ConfigError, match=said):
        FrontDoor([conf_dir()]).check(word.split())


@pytest.mark.parametrize("value", ["nan", "inf", "1", "[]"])
def test_a_folder_that_is_none_is_complained_about_once(value):
    with pytest.raises(ConfigError) as said:
        check_settings(compose("model=llama", f"model.dir={value}"), [conf_dir()])
    assert str(said.value).count("model.dir") == 1


def test_the_joblib_preset_is_composed_in_silence(recwarn):
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from zobench.config.signature import register

    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra_compose("config", overrides=["hydra/launcher=joblib"], return_hydra_config=True)
    assert not [each for each in recwarn if "ConfigStore" in str(each.message)]
