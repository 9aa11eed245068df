"""The supervisor: the one process that forks the others, watches them and replaces the dead."""
