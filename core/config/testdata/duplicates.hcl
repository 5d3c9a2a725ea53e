variable "a" {
  default = 1
}
variable "a" {
  default = 2
}
locals {
  x = 1
}
locals {
  x = { k = 1, k = 2, "k" = 3 }
}
pipeline "p" {

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }

  source "csv" "in" {
    path = "/x.csv"
  }
  transport "parquet" "out" {
    dir = "/other"
  }
  encoder "ingestion_config" {}
  encoder "ndjson" {}
  checkpoint {}
  checkpoint {}
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
pipeline "p" {

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake2"
  }

}
