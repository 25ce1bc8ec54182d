from random import Random

from opsfleet.simulate.rules import Flap, Rule, Servers, When
from opsfleet.simulate.servers import server_of


def test_a_percentage_is_exact_and_follows_the_seed() -> None:
    five = Servers(percent=5)
    assert len(five.chosen(10_000, "1/0")) == 500
    assert five.chosen(10_000, "1/0") == five.chosen(10_000, "1/0")
    assert five.chosen(10_000, "1/0") != five.chosen(10_000, "2/0")


def test_every_key_narrows_the_choice() -> None:
    assert Servers().chosen(3, "") == [0, 1, 2]
    assert Servers(first=2, last=4).chosen(10, "") == [2, 3, 4]
    assert Servers(first=8, last=40).chosen(10, "") == [8, 9]
    assert Servers(indexes=[9, 1, 1, 700], first=1).chosen(10, "") == [1, 9]
    chosen = Servers(regions=["us-east"], roles=["web", "db"], environments=["production"]).chosen(500, "")
    assert chosen
    for server in map(server_of, chosen):
        assert (server.region, server.environment) == ("us-east", "production")
        assert server.role in {"web", "db"}
    assert len(Servers(regions=["us-east"], percent=50).chosen(500, "")) < len(
        Servers(regions=["us-east"]).chosen(500, "")
    )


def test_an_outage_begins_ends_and_comes_again() -> None:
    once = When(start=10, duration=5)
    assert [once.active(t) for t in (9.9, 10, 14.9, 15, 110)] == [False, True, True, False, False]
    again = When(start=10, duration=5, repeat=100)
    assert [again.active(t) for t in (9.9, 10, 15, 109, 110, 115)] == [False, True, False, False, True, False]
    assert When(start=3).active(1e9)


def test_a_flapping_server_is_off_for_its_share_of_the_period() -> None:
    flap = Flap(period=60, duty=0.25)
    for phase in (0.0, 0.4, 0.99):
        assert sum(flap.active(second + 0.5, phase) for second in range(60)) == 15
    assert flap.active(0, 0.0)
    assert not flap.active(0, 0.5)


def test_a_rule_applies_when_all_its_conditions_do() -> None:
    random = Random(3)
    rule = Rule(endpoint="health", when=When(start=10), flap=Flap(period=10, duty=0.5))
    assert rule.applies("health", 11, 0.0, random)
    assert not rule.applies("metrics", 11, 0.0, random)
    assert not rule.applies("health", 9, 0.0, random)
    assert not rule.applies("health", 17, 0.0, random)
    sometimes = Rule(probability=0.25)
    assert 200 < sum(sometimes.applies("health", 0, 0.0, random) for _ in range(1_000)) < 300
