"""The questions: arms, distributions, fixed values. Data, not programs."""
