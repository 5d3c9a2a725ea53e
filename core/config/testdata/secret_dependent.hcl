locals {
  token = secret::env("SECRET")
  parts = split(".", local.token)
}
pipeline "p" {
  source "csv" "in" {
    path    = local.parts[7]
    columns = [for p in local.parts : env(p)]
    types   = { (local.token) = "double" }
    limit   = local.token
    follow  = local.token
    ports   = [local.token]
    speed   = { for p in [1, 2] : local.token => p }[local.token]
    flow    = jsondecode(local.token)
    query   = "${file(local.token)}"
    period  = timeadd(local.token, "1s")
    start   = local.token.field
  }
  transport "parquet" "out" {
    dir = "/lake"
  }
}
