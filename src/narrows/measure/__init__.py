"""Something that runs → a record: raw samples, unit, interval and environment. No torch here."""
