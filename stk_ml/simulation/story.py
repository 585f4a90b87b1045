"""A replayed year in nine lines; where the page is makes the tenth."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from stk_ml.contracts import Interval
from stk_ml.simulation.year import Event, Year

#: Lines in all, and those that the beginning and the end take.
LINES, FRAME = 9, 5
_LONGEST = 118
_MARKS = {
    "alarm": "drift",
    "worse": "decay",
    "broken": "broken",
    "started": "retrain",
    "canary": "gate",
    "refused": "gate",
    "promoted": "canary",
    "rolled_back": "canary",
    "failed": "retrain",
}


def lines(year: Year) -> list[str]:
    """At most nine lines: what was trained, what was found and decided, what it was worth.

    What led to a new version goes first when there is more than fits.
    """
    told = [_line(year.since, "train", year.trained)]
    room = LINES - FRAME
    events = [event for event in year.events if event.kind not in ("trained", "canary")]
    shown = _chosen(events, room)
    told += [_line(event.time, _MARKS[event.kind], said(event)) for event in shown]
    alarms = sum(day.alarm for day in year.days)
    drifted = sum(day.answer == "drift" for day in year.days)
    told.append(
        _line(
            year.until,
            "watched",
            f"{len(year.days)} days, {drifted} with drift, {alarms} alarms; {year.retrains} retrains, "
            f"{year.promoted} promoted; {year.requests:,} predictions over HTTP",
        )
    )
    for metric, name in (("auc", "AUC"), ("log_loss", "log loss")):
        if metric in year.gain:
            told.append(_line(year.until, "worth", _worth(year, metric, name)))
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in year.seconds.items() if name != "all")
    told.append(_line(year.until, "took", f"{year.seconds.get('all', 0.0):.0f} s ({parts})"))
    return told


def said(event: Event) -> str:
    """An event in a sentence.

    Example:
        >>> said(Event("2013-08-01T00:00:00Z", "promoted", "Answers all requests.", 2))
        'version 2 is promoted: Answers all requests.'
    """
    about = f"version {event.version}" if event.version else "it"
    before = {
        "promoted": f"{about} is promoted: ",
        "refused": f"{about} is refused: ",
        "rolled_back": f"{about} is rolled back: ",
        "canary": f"{about} goes to a canary: ",
        "failed": "failed: ",
    }
    return before.get(event.kind, "") + event.text


def _chosen(events: Sequence[Event], room: int) -> list[Event]:
    """The first alarm, then ends of retrains, then what led to them; oldest first."""
    rank = {
        "promoted": 1,
        "rolled_back": 1,
        "worse": 1,
        "broken": 2,
        "failed": 2,
        "refused": 2,
        "started": 3,
        "alarm": 3,
    }
    first = next((event for event in events if event.kind in ("alarm", "worse")), None)
    ordered = sorted(events, key=lambda event: (0 if event is first else rank[event.kind], event.time))
    kept = {id(event) for event in ordered[:room]}
    return [event for event in events if id(event) in kept]


def _worth(year: Year, metric: str, name: str) -> str:
    governed, frozen, gain = year.total.governed[metric], year.total.frozen[metric], year.gain[metric]
    return f"{name} {governed.value:.4f} with retraining, {frozen.value:.4f} without: better by {_shown(gain)}"


def _shown(gain: Interval) -> str:
    return f"{gain.value:.4f} ({gain.low:.4f} to {gain.high:.4f})"


def _line(time: str, what: str, text: str) -> str:
    day = datetime.fromisoformat(time)
    line = f"{day:%b} {day.day:>2}  {what:<8} {text}"
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1].rstrip() + "…"
