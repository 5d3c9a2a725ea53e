pipeline "p" {
  asset = "a"
  asset = "b"

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }

}
