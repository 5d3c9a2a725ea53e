locals {
  prefix = "héllo\n"
}
pipeline "p" {
  source "csv" "quoted" {
    path  = "/x.csv"
    query = "tab\there \u00e9 $${x} BAD end"
  }
  source "csv" "template" {
    path  = "/x.csv"
    query = "one ${local.prefix}two BAD"
  }
  source "csv" "inside" {
    path  = "/x.csv"
    query = "one ${"BAD"} two"
  }
  source "csv" "heredoc" {
    path  = "/x.csv"
    query = <<EOT
first
  second BAD
EOT
  }
  source "csv" "indented" {
    path  = "/x.csv"
    query = <<-EOT
      first
        second
      third BAD
    EOT
  }
  source "csv" "local" {
    path  = "/x.csv"
    query = local.prefix == "" ? "" : "BAD"
  }
  source "csv" "end" {
    path  = "/x.csv"
    query = "end"
  }
  source "csv" "parts" {
    path    = "/x.csv"
    columns = ["good", "bad"]
    scale   = { good = 1, bad = 2, "other" = 3 }
    column "first" {
      unit = "m"
    }
    column "second" {
      unit = "bad"
    }
    column "bad" {
    }
  }
  source "csv" "warning" {
    path = "/x.csv"
    flow = "warn"
  }
  source "csv" "everywhere" {
    path = "/x.csv"
    flow = "everywhere"
  }
  transport "parquet" "out" {
    dir = "/lake"
  }
}
