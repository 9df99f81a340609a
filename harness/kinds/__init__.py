"""The kinds that ship with Bakeoff. A stranger's kind subclasses `harness.Kind` in a file of its own and needs nothing here."""
