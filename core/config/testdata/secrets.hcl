locals {
  token  = secret::env("SECRET")
  folder = "/x/${local.token}"
}
pipeline "p" {
  asset      = local.token
  asset_tags = ["a", "b-${local.token}"]
  source "csv" "in" {
    path   = "/x.csv"
    query  = local.token
    gather = local.token
    plugin {
      env = { TOKEN = local.token }
    }
    column "x" {
      key = "written in the open"
    }
  }
  encoder "ingestion_config" {}
  transport "sift" "a" {
    uri     = "https://x"
    api_key = secret::env("NOT_SET")
  }
  transport "sift" "b" {
    uri     = "https://x"
    api_key = secret::env("EMPTY")
  }
  transport "sift" "c" {
    uri     = "https://x"
    api_key = secret::file("testdata/does-not-exist")
  }
  transport "sift" "d" {
    uri     = "https://x"
    api_key = secret::credential("api")
  }
  transport "sift" "e" {
    uri     = "https://x"
    api_key = "in the open"
  }
  transport "sift" "f" {
    uri     = "https://x"
    api_key = secret::file("testdata")
  }
  transport "sift" "g" {
    uri     = "https://x"
    api_key = "${upper("in the open")}-${secret::env("NOT_SET")}-${5}"
  }
  transport "sift" "h" {
    uri     = "https://x"
    api_key = 5
  }
}
