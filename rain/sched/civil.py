"""Dates for people, out of milliseconds since 1970, in UTC. Pure: it reads no clock.

The Gregorian calendar repeats every 400 years (an era of 146,097 days). Counting years from the
first of March puts the leap day last, so that the months before it never move.
"""

_MS_PER_DAY = 86_400_000
_DAYS_PER_ERA = 146_097
_DAYS_TO_1970 = 719_468
"""From the first of March of year 0 to the first of January 1970."""


def civil_from_days(days: int) -> tuple[int, int, int]:
    """(year, month, day) of that many days after the first of January 1970."""
    era, day_of_era = divmod(days + _DAYS_TO_1970, _DAYS_PER_ERA)
    year_of_era = (
        day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    return year, month, day


def rfc3339(unix_ms: int) -> str:
    """`2025-03-09T16:05:00.250Z`, always with milliseconds, so that text sorts as time does."""
    days, ms = divmod(unix_ms, _MS_PER_DAY)
    year, month, day = civil_from_days(days)
    seconds, ms = divmod(ms, 1_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
