"""Wake-ups: hints that something was committed, within one process or between several."""
