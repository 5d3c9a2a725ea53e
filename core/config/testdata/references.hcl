variable "flight" {
  default = "f9"
}
locals {
  name = "x"
  bad  = local.nam
  uses = local.bad
}
pipeline "p" {
  asset      = "${var.fligth}-${locals.name}"
  asset_tags = [vars.flight, path.modul, pipeline.id, data_dirs, local.name, env.HOME, keys(local)[0]]
  asset_metadata = { a = nofunction("x"), b = uper("x"), c = secret::vault("x") }
  source "csv" "in" {
    path = local.uses
  }

  source "host" "fine" {}
  transport "parquet" "out" {
    dir = "/lake"
  }

}
