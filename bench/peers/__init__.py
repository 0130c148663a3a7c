"""The same grid as others' documentation would have a user write it."""
