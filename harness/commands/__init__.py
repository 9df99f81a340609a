"""Commands of `bakeoff`, one module each."""
