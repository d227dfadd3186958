"""Change data merged into keyed tables: what changed, where it is stored, and what it becomes.

The way of a merge, each step a module: `sources` (`source_*`) and `changes` read (by `rules`,
`kinds`, `naming` and `conforming`; `evolving` adds columns), `deletes` and `latest` leave one
change per key (`keys`, `index`), `routing_files` rules out files by metadata, `finding` looks for
the stored rows (`key_filters`, `bounds`, `routing`, `filtering`, `paging`, `matching`), `outcome`
settles what goes and what comes, `completing` makes whole rows, `choice` decides how files lose
rows, `tasks` divides the work by partition and size, `group` writes. `rounds` and `buckets` divide
what memory does not hold.
"""
