pipeline "p" {
  asset = 5
  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/x"
  }
}
