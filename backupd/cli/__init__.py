"""The front door for people and scripts: one verb a file, the app in main.py, what is shown in output.py."""
