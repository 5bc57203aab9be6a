"""Settings: defaults, file, environment, in that order; what is wrong is refused with the nearest right name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from core.errors import ConfigError
from server.cli import starter
from server.config import Config, rows


def load(tmp_path: Path, text: str, name: str = "rapport.yaml", **environment: str) -> Config:
    file = tmp_path / name
    file.write_text(text)
    return Config.load(file, environment)


def test_environment_beats_file_beats_default(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "drain: {seconds: 3}\nlog: {level: debug}\n",
        RAPPORT_LOG_LEVEL="error",
        RAPPORT_DRAIN_SECONDS="4",
    )
    assert (config.drain_seconds, config.log_level, config.log_format) == (4.0, "error", "console")
    origins = {row.key: origin for row, _, origin in config.rows()}
    assert origins["log.level"] == "RAPPORT_LOG_LEVEL"
    assert origins["log.format"] == "default"


def test_a_switch_in_the_environment_is_off_when_it_says_false(tmp_path: Path) -> None:
    """Every text but the empty one was true, so RAPPORT_THREADS_REALTIME=false switched it on."""
    assert load(tmp_path, "", RAPPORT_THREADS_REALTIME="true").threads_realtime is True
    assert load(tmp_path, "threads: {realtime: true}", RAPPORT_THREADS_REALTIME="false").threads_realtime is False
    assert load(tmp_path, "threads: {}\nlisten:\n").threads_realtime is False


def test_toml_and_yaml_and_dotted_keys_say_the_same(tmp_path: Path) -> None:
    a = load(tmp_path, "[listen]\ndecisions = '127.0.0.1:0'\n", "a.toml")
    b = load(tmp_path, "listen:\n  decisions: 127.0.0.1:0\n", "b.yaml")
    c = load(tmp_path, "listen.decisions: 127.0.0.1:0\n", "c.yaml")
    assert a.listen_decisions == b.listen_decisions == c.listen_decisions == "127.0.0.1:0"


def test_paths_are_relative_to_the_file_and_stay_as_written_in_the_environment(tmp_path: Path) -> None:
    config = load(tmp_path, "models: {path: m}\n", RAPPORT_STORE_PATH="here")
    assert (config.models_path, config.store_path) == (str(tmp_path / "m"), "here")
    assert load(tmp_path, "").store_path == str(tmp_path / "store")
    assert load(tmp_path, "").programs_path == ""


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        ("listen: {decision: a}", {}, "listen.decisions"),
        ("threads: {handlers: 0}", {}, "from 1 to 256"),
        ("threads: {handlers: many}", {}, "a whole number"),
        ("threads: {handlers: true}", {}, "a whole number"),
        ("log: {level: wraning}", {}, "Did you mean 'warning'?"),
        ("log: []", {}, "log: is a section of settings (format, level), and is [] (in "),
        ("store: [x]", {}, "Write one of them as store.alarm_"),
        ("store: x", {}, "store: is a section of settings (alarm_"),
        ("'': x", {}, ": there is no such setting"),
        ("a: " + "[" * 3_000, {}, "nested too deeply"),
        ("a: " + "[" * 3_000 + "]" * 3_000, {}, "nested too deeply"),
        ("a: " + "{a: " * 3_000, {}, "nested too deeply"),
        ("- a\n- b", {}, "section"),
        ("log: {level: info}\nlog.level: debug", {}, "twice"),
        ("{", {}, "is not YAML"),
        ("", {"RAPPORT_THREADS_HANDLERS": "4.5"}, "RAPPORT_THREADS_HANDLERS"),
        ("", {"RAPPORT_THREADS_REALTIME": "no"}, "RAPPORT_THREADS_REALTIME must be true or false, and is 'no'"),
        ("lisen: {}", {}, "Did you mean 'listen'?"),
        ("store: {path: ''}", {}, "store.path: is empty"),
        ("", {"RAPPORT_STORE_PATH": ""}, "is empty (from RAPPORT_STORE_PATH)"),
        ("", {"RAPPORT_LISTEN_DECISION": "x"}, "RAPPORT_LISTEN_DECISIONS"),
    ],
)
def test_what_is_wrong_is_refused_and_says_what_would_be_right(
    tmp_path: Path, text: str, environment: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text, **environment)
    assert words in str(refused.value)


@pytest.mark.parametrize("text", ["a = " + "[" * 3_000 + "]" * 3_000, "a." * 3_000 + "a = 1"])
def test_toml_that_is_nested_too_deeply_is_refused(tmp_path: Path, text: str) -> None:
    """It ended in a traceback, as YAML did."""
    with pytest.raises(ConfigError, match="nested too deeply"):
        load(tmp_path, text, "rapport.toml")


@pytest.mark.parametrize(
    ("text", "key", "places"),
    [
        ("log:\n  level: debug\n  format: json\n  level: error\n", "log.level", ((2, 3), (4, 3))),
        ("drain: {seconds: 1}\nlog: {level: info}\ndrain: {seconds: 2}\n", "drain", ((1, 1), (3, 1))),
        ("log.level: debug\nlog.level: info\n", "log.level", ((1, 1), (2, 1))),
        ("log: {level: info}\nlog.level: debug\n", "log.level", ((1, 7), (2, 1))),
    ],
)
def test_a_setting_written_twice_is_refused_with_both_places(
    tmp_path: Path, text: str, key: str, places: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    """YAML keeps the last of two equal keys, so a second `drain:` far below switched the first off without a word."""
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text)
    assert refused.value.metadata["key"] == key
    first, second = (f"{tmp_path / 'rapport.yaml'}:{line}:{column}" for line, column in places)
    assert refused.value.message == f"{key}: is set twice, at {first} and {second}."


def test_two_writings_of_one_section_and_merged_keys_are_no_key_twice(tmp_path: Path) -> None:
    config = load(tmp_path, "log.level: debug\nlog: &log {format: json}\ndrain: {seconds: 3}\n")
    assert (config.log_level, config.log_format) == ("debug", "json")
    with pytest.raises(ConfigError, match="too deep"):
        load(tmp_path, "log: &log {level: *log}\n")


def test_foreign_variables_are_none_of_our_business(tmp_path: Path) -> None:
    load(tmp_path, "", RAPPORT_SHARED_DATA="/data", RAPPORT_CASES="100")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.load(tmp_path / "none.yaml", {})


def test_the_file_that_init_writes_holds_every_setting_and_changes_none_but_the_program(tmp_path: Path) -> None:
    text = starter.configuration()
    written = load(tmp_path, text)
    plain = load(tmp_path, "", "plain.yaml")
    changed = {row.key for (row, a, _), (_, b, _) in zip(written.rows(), plain.rows(), strict=True) if a != b}
    assert changed == {"programs.path"}
    # And with every line put in effect it is still a configuration, the same one.
    everything = "\n".join(line.removeprefix("#") for line in text.splitlines()[1:] if not line.startswith("  # "))
    document = yaml.safe_load(everything)
    assert {f"{head}.{name}" for head, section in document.items() for name in section} == {
        row.key for _, row in rows()
    }
    load(tmp_path, everything)


def test_every_setting_says_when_to_change_it() -> None:
    for _, row in rows():
        assert row.when.endswith("."), row.key


def test_the_control_address_stands_beside_that_of_decisions() -> None:
    assert Config(listen_decisions="127.0.0.1:7400").control_address == "127.0.0.1:7401"
    assert Config(listen_decisions="127.0.0.1:0").control_address == "127.0.0.1:0"
    assert Config(listen_decisions="unix:/run/r").control_address == "unix:/run/r.control"
    assert Config(listen_decisions="[::1]:7400", listen_control="[::1]:9").control_address == "[::1]:9"
    with pytest.raises(ConfigError, match="no port after") as refused:
        _ = Config(listen_decisions="127.0.0.1:65535").control_address
    assert refused.value.metadata["key"] == "listen.control"
