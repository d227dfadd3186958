"""What workers run: select, transcode, prove."""
