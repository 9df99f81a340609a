"""Statistics behind a board: intervals, paired tests, ranks and overall rankings."""
