pipeline "p" {
  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }
  flow "f" {
    channel "c" {
      type = "double"
    }
    channel "c" {
      type = "bool"
    }
  }
  flow "f" {
    channel "c" {
      type = "double"
    }
  }
}
