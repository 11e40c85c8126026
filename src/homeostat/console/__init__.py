"""What people look at: the report of a replay, on a page and on the terminal."""
