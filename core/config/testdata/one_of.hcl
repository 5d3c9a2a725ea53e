pipeline "p" {
  source "generator" "both" {
    rate  = 5
    every = 6
    seed  = 1
  }
  source "generator" "none" {
  }
  source "generator" "two" {
    seed = 1
    salt = "x"
  }

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }

}
