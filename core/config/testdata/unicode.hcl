pipeline "p" {
		asset = "日本語 é" + 1
  source "host" "in‮" {}
  transport "parquet" "out" { dir = "/x" }
}
