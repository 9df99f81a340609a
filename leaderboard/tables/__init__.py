"""Boards as text, data files and notebook tables."""
