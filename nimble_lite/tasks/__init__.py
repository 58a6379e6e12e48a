"""A `GraphModule` or a callable -> a `TaskGraph`: what runs, what each task reads and writes."""
