"""The words of a command line before any parser sees them: flags in front, and what would hang or confuse a parser.

Standard library only.
"""

import re
from collections.abc import Sequence

from zobench.errors import ConfigError, did_you_mean, in_one_line, shown

#: allows what runs code of others: Hydra's callbacks, and launchers or sweepers that are no known plugin
ALLOW_FOREIGN = "--allow-foreign"
#: says what a run will take, and stops
ESTIMATE = "--estimate"
_WITH_VALUE = ("--config-dir", "-cd", "--cfg", "-c", "--package", "-p", "--shell-completion", "-sc")
_ALONE = (
    "--help", "-h", "--list", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m", "--info",
    "-i", ALLOW_FOREIGN, ESTIMATE,
)  # fmt: skip
_OWN_CONFIGURATION = ("--config-path", "-cp", "--config-name", "-cn", "--experimental-rerun")
_OF_SWEEP = ("--dry-run", "--status", "--watch", "--retry-failed", "--only", "--launcher")

_LONGEST, _DEEPEST, _DIGITS = 20_000, 20, 300
#: what Hydra's grammar takes in a value without quotes
_UNQUOTED = re.compile(r"(?:[\w\s/\-+.$%*@?|:(){}\[\],]|\\.)*", re.ASCII)
#: an interpolation that calls something, ``${name:...}``, and one whose name is put together from others
_RESOLVER = re.compile(r"\$\{\s*(?:(?P<name>[\w.]+)\s*:|[\w.\s]*\$\{)")
_RESOLVERS = ("signature", "hydra")


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Put flags and their values in front of all other words, as Hydra's parser wants them.

    >>> flags_first(["seed=0,1", "--config-dir", "mine", "steps=3", "-m"])
    ['--config-dir', 'mine', '-m', 'seed=0,1', 'steps=3']

    Raises:
        ConfigError: for a flag that is not known, or whose value is missing.
    """
    flags: list[str] = []
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("-"):
            words.append(word)
            continue
        _check_flag(word.partition("=")[0])
        flags.append(word)
        if word in _WITH_VALUE:
            value = next(rest, None)
            if value is None:
                raise ConfigError(f"{word}: expected a value behind it")
            flags.append(value)
    return flags + words


def overrides(arguments: Sequence[str]) -> list[str]:
    """The arguments that are neither flags nor values of flags."""
    pairs = zip(["", *arguments], arguments, strict=False)
    return [word for before, word in pairs if not word.startswith("-") and before not in _WITH_VALUE]


def _check_flag(flag: str) -> None:
    if flag in _OWN_CONFIGURATION:
        raise ConfigError(f"{flag}: zobench reads its own configuration; options of yours go into --config-dir DIR")
    if flag in _OF_SWEEP:
        raise ConfigError(f"{flag}: a flag of tables of runs: python -m zobench.sweep GRID {flag}; --help there")
    if flag not in (*_WITH_VALUE, *_ALONE):
        hint = did_you_mean(flag, (*_WITH_VALUE, *_ALONE), otherwise="; see python -m zobench --list")
        raise ConfigError(f"{flag}: no such flag{hint}")


def check_words(words: Sequence[str]) -> None:
    """Refuse overrides that are too long, too deep, not text, or in need of quotes.

    Raises:
        ConfigError: for the first of them, with what to type instead.
    """
    for word in words:
        if len(word) > _LONGEST:
            raise ConfigError(f"{shown(word)}: {len(word):,} characters, expected at most {_LONGEST:,}")
        if _depth(word) > _DEEPEST:
            raise ConfigError(f"{shown(word)}: brackets within brackets, expected at most {_DEEPEST} deep")
        if re.search(rf"\d{{{_DIGITS},}}", word):
            raise ConfigError(f"{shown(word)}: a number of over {_DIGITS} digits")
        if any("\ud800" <= sign <= "\udfff" for sign in word):
            raise ConfigError(f"{shown(word)}: not UTF-8")
        check_interpolations(word, word)
        _check_quotes(word)


def check_interpolations(text: str, where: str) -> None:
    """Refuse ``${resolver:...}`` except zobench's and Hydra's own: records hold what a setting resolves to.

    >>> check_interpolations("${choices.task}/${signature:}", "out")
    >>> check_interpolations("${oc.env:HF_TOKEN}", "model.id")
    Traceback (most recent call last):
    zobench.errors.ConfigError: model.id: ${oc.env:...} would be stored resolved in the record; write the value itself

    Raises:
        ConfigError: for the first of them.
    """
    for match in _RESOLVER.finditer(text):
        if match["name"] not in _RESOLVERS:
            name = match["name"] or "${...}"
            raise ConfigError(
                f"{shown(where)}: ${{{name}:...}} would be stored resolved in the record; write the value itself"
            )


def _check_quotes(word: str) -> None:
    key, equals, value = word.partition("=")
    if not equals or not value or "'" in value or '"' in value:
        return
    if not _UNQUOTED.fullmatch(value):
        raise ConfigError(f"{shown(word)}: the value needs quotes within quotes: {_quoted(key, value)}")


def check_commas(words: Sequence[str]) -> None:
    """Refuse a comma between plain values where one run is asked for.

    Raises:
        ConfigError: with the two things it may have meant.
    """
    for word in words:
        key, _, value = word.partition("=")
        if "," in value and not any(mark in value for mark in "'\"[]{}()"):
            raise ConfigError(
                f"{shown(word)}: a comma lists values of a sweep, which needs -m; a text with a comma in it "
                f"needs quotes within quotes: {_quoted(key, value)}"
            )


def of_hydra(error: Exception) -> ConfigError:
    """What Hydra's error is to a user: an override that cannot be read is named, with the quotes it needs."""
    word = getattr(error, "override", None)
    if not isinstance(word, str):
        return ConfigError(in_one_line(error))
    key, _, value = word.partition("=")
    return ConfigError(
        f"{shown(word)}: the value cannot be read; a list needs both brackets, and a text with such signs "
        f"quotes within quotes: {_quoted(key, value)}"
    )


def quoted(text: str) -> str:
    """A text as a value of Hydra's, whatever signs are in it.

    >>> print(quoted("a,b's"))
    'a,b\\'s'
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quoted(key: str, value: str) -> str:
    """A setting as it is typed where its value needs quotes, for the shell and for Hydra.

    >>> print(_quoted("data.dir", "a=b"), _quoted("data.dir", "Ann's"))
    "data.dir='a=b'" "data.dir=\\"Ann's\\""
    """
    mark = '\\"' if "'" in value else "'"
    return '"' + shown(f"{key}={mark}{value}{mark}") + '"'


def _depth(word: str) -> int:
    depth = deepest = 0
    for sign in word:
        depth += (sign in "([{") - (sign in ")]}")
        deepest = max(deepest, depth)
    return deepest
