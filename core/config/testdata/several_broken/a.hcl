pipeline "one" {
  source "host" "in" {
    until = pipeline.two
  }
  transport "parquet" "out" {
    dir = "/one"
