"""Apache Iceberg tables, through the catalogs that PyIceberg can open."""
