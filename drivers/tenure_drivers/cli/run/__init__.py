"""`tenure run`: read a file of prompts, admit them, work until each has ended, print one line for each."""
