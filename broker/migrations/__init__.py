"""Migrations of the engine's store, oldest first; each is small and is never changed once released."""
