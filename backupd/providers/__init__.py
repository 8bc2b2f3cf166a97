"""Cameras: each catches the files of a frozen copy at one moment."""
