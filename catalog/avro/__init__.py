"""Avro: schemas compiled into functions that read, step over or write; container files."""
