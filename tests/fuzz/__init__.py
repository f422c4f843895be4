"""Fuzzing: whatever bytes come, both decoders say the same, no exception escapes, and what is refused changes nothing."""
