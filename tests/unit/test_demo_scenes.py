"""What makes the tour a check: an answer that is not as told is a fault, and a fault is seen."""

from io import StringIO

import pytest
from rich.console import Console

from streams.development.demo.drawing import draw_scene
from streams.development.demo.scenes import Answer, Expected, Moment, Scene, Speaker
from streams.development.demo.words import entry_words
from streams.operator_tools.timelines import Entry

ANSWER = Answer(status=201, body={"status": "captured", "operation": {"state": "succeeded"}}, replayed=False)


def test_expected_finds_no_fault_when_the_answer_is_as_told() -> None:
    assert Expected(status=201, says={"status": "captured", "operation.state": "succeeded"}).faults(ANSWER) == []


def test_expected_names_each_difference_when_the_answer_is_another() -> None:
    told = Expected(status=200, says={"status": "voided", "operation.error.code": "x"}, replayed=True)

    assert told.faults(ANSWER) == [
        "expected status 200, was told 201",
        "expected Idempotent-Replayed True, was told False",
        "expected status to be 'voided', was told 'captured'",
        "expected operation.error.code to be 'x', was told None",
    ]


def test_drawing_shows_faults_and_no_control_characters_when_a_scene_went_wrong() -> None:
    scene = Scene(title="Pay", meaning="A sale.", faults=["expected status 201, was told 500"])
    scene.moments += [
        Moment(at_ms=1_020, speaker=Speaker.ENGINE, what="500", details="oh", as_expected=False),
        Moment(at_ms=1_000, speaker=Speaker.YOU, what="POST /payments", details="key=\x1b[2J"),
    ]
    printed = StringIO()

    draw_scene(Console(file=printed, width=120), scene, number=1, count=9)

    lines = printed.getvalue().splitlines()
    assert "1/9 Pay" in lines[1]
    assert "POST /payments" in lines[2]
    assert "\\x1b[2J" in lines[2]
    assert "\x1b" not in printed.getvalue()
    assert "+   20 ms" in lines[3]
    assert "✗ 500" in lines[3]
    assert "NOT AS EXPECTED: expected status 201, was told 500" in lines[4]


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ("mock,mock,mock", "tries mock up to 3 times"),
        ("a,b,a", "tries a, then b, then a"),
        ("a,a,b", "tries a up to 2 times, then b"),
        ("a", "tries a"),
        ("", "no gateway"),
    ],
)
def test_route_plan_is_told_in_words(plan: str, told: str) -> None:
    assert entry_words(entry_of("claim", idempotency_key="k", gateways=plan)) == f"idempotency_key=k {told}"


def entry_of(kind: str, **facts: str) -> Entry:
    return Entry(
        at_ms=0,
        topic="t",
        partition=0,
        offset=0,
        event_id="id",
        event_type="type",
        kind=kind,
        op_id=None,
        facts=tuple(facts.items()),
        repeat=False,
    )
