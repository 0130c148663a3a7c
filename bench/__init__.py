"""Speed and memory, measured against what a user would otherwise write. Nothing here is imported by the project."""
