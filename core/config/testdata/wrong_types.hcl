pipeline "a" {
  asset         = 5
  asset_tags    = "one"
  asset_metadata = { a = [1], b = null }
  drain_timeout = 20
  source "csv" "in" {
    path    = ["a", "b"]
    flow    = true
    speed   = "fast"
    columns = ["a", 2, "c"]
    ports   = [1, 2.5]
    types   = { a = "double", b = "complex" }
    scale   = { a = "x" }
    follow  = "maybe"
    period  = "250"
    limit   = "12 GB"
    start   = "yesterday"
    gather  = { a = 1 }
  }
  source "csv" "null" {
    path = null
  }
  source "csv" "numbers" {
    path    = "/x.csv"
    ports   = ["7", 1e30]
    columns = [null]
    scale   = [1]
    types   = "double"
    limit   = "1.0000001B"
    period  = "300000d"
    start   = "0001-01-01T00:00:00Z"
  }
  transport "parquet" "out" {
    dir      = "/lake"
    required = "no"
    flows    = "engine"
    channel_names = "qualifed"
  }
}
