"""The Ray backend: the same shim, limits, profiles and errors on a cluster.

The only package that imports `ray`. `cluster` starts or joins one, `driver` is what callers see,
`dispatcher` decides, `worker` is what runs inside a Ray task.
"""
