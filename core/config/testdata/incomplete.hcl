pipeline "empty" {
}
pipeline "no_encoder" {
  source "host" "in" {}
  transport "sift" "out" {
    uri     = "https://x"
    api_key = secret::env("SECRET")
  }
  transport "parquet" "rows" {
    dir = "/lake"
  }
}
pipeline "wrong_encoder" {
  asset = "x"
  source "host" "in" {}
  encoder "ndjson" {}
  transport "sift" "out" {
    uri     = "https://x"
    api_key = secret::env("SECRET")
  }
  transport "file" "any" {
    dir = "/any"
  }
}
