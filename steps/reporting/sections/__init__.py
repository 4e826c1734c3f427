"""The sections of the reports, by what they tell of."""
