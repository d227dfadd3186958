"""The job API over gRPC: its messages, the server, and the client that the command line is."""
