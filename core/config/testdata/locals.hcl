locals {
  a     = local.b
  b     = [local.c]
  c     = { x = local.a }
  self  = local.self
  fine  = "fine"
  block {
    x = 1
  }
}
pipeline "p" {
  asset = local.a

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }

}
