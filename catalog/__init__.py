"""Tables of three formats behind one model; knows nothing of compaction or of the runtime."""
