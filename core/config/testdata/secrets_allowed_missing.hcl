# allow-missing-secrets
pipeline "p" {
  asset = "x"
  source "host" "in" {}
  encoder "ingestion_config" {}
  transport "sift" "a" {
    uri     = "https://x"
    api_key = "Bearer ${secret::env("NOT_SET")}"
    note    = upper(secret::file("testdata/does-not-exist"))
  }
}
