"""What is held about a person, and what becomes of it: for `headwater export` and `headwater forget`."""
