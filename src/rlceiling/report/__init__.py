"""What people look at: plots, tables, sentences and the report that holds them all."""
