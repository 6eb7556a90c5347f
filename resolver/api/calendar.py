"""When names end, as a calendar that programs subscribe to (RFC 5545, by the library icalendar).

What must stay true: the same chain gives the same calendar, byte for byte; an event
keeps its UID for as long as it means the same name and end, so that it moves in the reader's
calendar when the name is renewed or blocks come faster; a day is always called estimated.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from indexer.table.snapshot import Snapshot
from resolver.api import parameters as p
from resolver.api import schemas as s
from resolver.api.listing_cache import Ending
from resolver.api.lists import endings_of
from resolver.api.request import Asked, Told, owner_script
from resolver.api.routes import RouteTable

if TYPE_CHECKING:
    from icalendar import Calendar

MAX_EVENTS = 1000
REFRESH = timedelta(hours=12)
REMINDER = timedelta(days=-30)

ROUTES = RouteTable()


@ROUTES.get(
    "/v1/addresses/bitcoin/{address}/expiry.ics",
    reply=s.CALENDAR,
    query=(p.DAYS,),
    content_type="text/calendar",
    long=True,
)
def calendar(asked: Asked) -> Told:
    """When the names of an address end, as a calendar to subscribe to."""
    script = owner_script(asked["address"], asked.seen)
    soon = endings_of(asked.seen, script, asked["days"] or p.MAX_DAYS)
    text = write_calendar(asked.seen, asked["address"], soon[: MAX_EVENTS // 2])
    return Told(text, content_type="text/calendar; charset=utf-8")


def write_calendar(seen: Snapshot, owner: str, endings: Sequence[Ending]) -> str:
    """The calendar's text, in lines of at most 75 octets that end in CRLF."""
    from icalendar import Calendar  # a tenth of a second, and few ever ask for a calendar

    book = Calendar()
    book.add("prodid", "-//Blockstore//expiry of names//EN")
    book.add("version", "2.0")
    book.add("calscale", "GREGORIAN")
    book.add("method", "PUBLISH")
    book.add("x-wr-calname", f"Names of {owner}")
    book.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
    book.add("x-published-ttl", REFRESH)
    for one in endings:
        _add_ending(book, seen, one)
    text: str = book.to_ical().decode("utf-8")
    return text


def _add_ending(book: "Calendar", seen: Snapshot, one: Ending) -> None:
    if one.expires_at < one.gone_at:
        until = f"It can be renewed until block {one.gone_at}."
        _add_event(book, seen, one, "expires", one.expires_at, until)
    _add_event(book, seen, one, "is lost", one.gone_at, "From then on anybody may register it.")


def _add_event(
    book: "Calendar", seen: Snapshot, one: Ending, what: str, height: int, then: str
) -> None:
    from icalendar import Alarm, Event

    now = datetime.fromtimestamp(seen.block_time, UTC)
    try:
        day = (now + timedelta(seconds=(height - seen.height) * seen.network.target_spacing)).date()
    except OverflowError:
        return  # no calendar has that day
    event: Event = Event()
    event.add("uid", f"{one.name}-{what.replace(' ', '-')}@{seen.network.name}.blockstore.invalid")
    event.add("dtstamp", now)
    event.add("last-modified", now)
    event.add("sequence", seen.height)
    event.add("dtstart", day)
    event.add("dtend", day + timedelta(days=1))
    event.add("summary", f"{one.name} {what}")
    event.add(
        "description",
        f"The name {one.name} {what} at block {height}. {then} The day is estimated at block"
        f" {seen.height}, with {seen.network.target_spacing:g} seconds a block.",
    )
    event.add("transp", "TRANSPARENT")
    alarm = Alarm()
    alarm.add("action", "DISPLAY")
    alarm.add("description", f"{one.name} {what} in about a month")
    alarm.add("trigger", REMINDER)
    event.add_component(alarm)
    book.add_component(event)
