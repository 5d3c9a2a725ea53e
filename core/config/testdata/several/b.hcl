variable "x" {
  default = "2"
}
locals {
  y = var.x
}
pipeline "two" {
  source "host" "in" {
  }
  transport "parquet" "out" {
    dir = "/one"
  }
}
pipeline "one" {
  source "host" "in" {
  }
}
