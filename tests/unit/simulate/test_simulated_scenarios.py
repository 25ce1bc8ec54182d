from pathlib import Path

import pytest

from opsfleet.simulate.scenario import ScenarioError, load_scenario, parse_scenario, scenario_names


def test_every_scenario_of_the_package_is_valid_and_says_what_it_is() -> None:
    names = scenario_names()
    assert {"calm", "demo", "black-holes", "storm"} <= set(names)
    for name in names:
        scenario = load_scenario(name)
        assert scenario.name == name
        assert scenario.description.endswith(".")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "monday.toml"
    file.write_text("[[rules]]\nservers = { percent = 10 }\nstatus = { code = 503 }\n")
    scenario = load_scenario(file)
    assert scenario.name == "monday"
    assert scenario.rules[0].status is not None
    assert scenario.rules[0].status.code == 503


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule = 1", "scenario x: Object contains unknown field `rule`; accepted: name, description, seed, rules"),
        (
            '[[rules]]\nnetwork = "off"',
            "rules[0].network: Invalid enum value 'off'; accepted: black-hole, refuse, drop",
        ),
        (
            "[[rules]]\nservers = { percnt = 5 }",
            "rules[0].servers: Object contains unknown field `percnt`; accepted: p",
        ),
        ("[[rules]]\nservers = { percent = 500 }", "rules[0].servers.percent: Expected `float` <= 100.0"),
        ('[[rules]]\nservers = { regions = ["mars"] }', "rules[0].servers: regions: mars is none of eu-central, us-e"),
        ("[[rules]]\nlatency = { ms = 3 }", "rules[0].latency: Object missing required field `shape`"),
        (
            '[[rules]]\nlatency = { shape = "flat" }',
            "rules[0].latency.shape: Invalid value 'flat'; accepted: constant,",
        ),
        ('[[rules]]\nlatency = { shape = "constant", ms = -1 }', "rules[0].latency: ms must be 0 or more"),
        ("[[rules]]\nwhen = { repeat = 9 }", "rules[0].when: repeat needs a duration"),
        ('[[rules]]\nnetwork = "drop"\nprobability = 0.5', "rules[0]: network = drop cannot have when"),
        ("rules = ", "not TOML: Invalid value"),
    ],
)
def test_an_error_names_the_key_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, source="x")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ScenarioError, match=r"scenario monday: no such file, and not one of .*calm, demo"):
        load_scenario("monday")
