pipeline "a" {
  asset = "x
  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }
}

pipeline 'b' {
}
