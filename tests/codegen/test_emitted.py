"""The text of one program: to the letter, and by what it computes."""
