"""One file per foreign system; each implements the port of a stage and imports its package late."""
