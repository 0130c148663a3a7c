"""Several studies of one factor side by side: is the ranking of the arms the same, where, and what changed?"""
