"""A `GraphModule` or a callable -> a `TaskGraph`: what runs, and what each task reads and writes."""
