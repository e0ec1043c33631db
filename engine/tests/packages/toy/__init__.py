"""Another team's package: the tests' own small problem."""
