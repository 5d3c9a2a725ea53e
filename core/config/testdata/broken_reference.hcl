variable "path" {
  type = string
}
locals {
  unit = local.nothing
}
pipeline "p" {
  source "csv" "in" {
    path = var.path
    flow = "everywhere"
  }
  source "csv" "nested" {
    path = "/x"
    flow = "everywhere"
    column "x" {
      unit = local.unit
    }
  }
  transport "parquet" "out" {
    dir = "/lake"
  }
}
