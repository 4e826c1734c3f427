"""The sections of an evaluation's report, by what they tell of."""
