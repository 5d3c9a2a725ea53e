pipeline {
}
pipeline "a" "b" {
}
pipeline "Has Spaces" {
}
pipeline "a" {
  source "host" {}
  source "host" "in" "extra" {}
  source "host" "In-Put" {}
  encoder "ingestion_config" "label" {}
  transport {}
  checkpoint "x" {
  }
  flow {
  }
  rule "x" "y" {
  }
  source "csv" "ok" {
    path = "/x"
    column {
    }
  }

  source "host" "fine" {}
  transport "parquet" "out" {
    dir = "/lake"
  }

}
locals "x" {
}
variable {
}
variable "no good" {
}
