"""What the assignment's notebooks import to check themselves; it travels with them to students."""
