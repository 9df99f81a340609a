"""The kinds that ship with Bakeoff. A kind of your own subclasses `harness.Kind` in its own file and needs nothing from here."""
