"""Hooks, loops and checks of a run; one concern a file."""
